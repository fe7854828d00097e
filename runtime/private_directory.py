"""Directories that only this user can write to, and private files, whatever the umask is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from runtime.errors import RuntimeFaultError


def private_directory(path: Path, *, mode: int) -> Path:
    """Make `path` with `mode`, or check that it is a real directory that only this user can write to.

    Raises RuntimeFaultError if another user made it first, or it is a link. Its content cannot be trusted then, and
    nothing is changed.
    """
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        status = os.lstat(path)
        others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or others_write:
            raise RuntimeFaultError(
                f"{path} is not a directory that only this user can write to, so it is not used; "
                "remove it, or set PANEL_DATA_DIR"
            ) from None
    else:
        # The umask cuts mkdir's mode. In a sticky directory no other user can have replaced what we own.
        path.chmod(mode)
    return path


def own_directory(path: Path, *, mode: int = 0o700) -> Path:
    """Make `path` and its missing parents, for this user alone. An existing directory stays as it is."""
    if not path.is_dir():
        own_directory(path.parent)
        path.mkdir(mode=mode, exist_ok=True)
    return path


def close_to_others(directory: Path) -> None:
    """Take away the rights that earlier versions gave other users on the files and directories in `directory`.

    If this process is root, directories keep their rights: PostgreSQL's own account must pass through one of them.
    """
    for path in directory.iterdir():
        status = path.lstat()
        if status.st_uid != os.geteuid() or stat.S_ISLNK(status.st_mode):
            continue
        if stat.S_ISREG(status.st_mode) or (stat.S_ISDIR(status.st_mode) and os.geteuid() != 0):
            path.chmod(stat.S_IMODE(status.st_mode) & 0o700)
