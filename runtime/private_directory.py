"""Directories and files for this user alone, whatever the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from runtime.errors import RuntimeFaultError


def private_directory(path: Path, *, mode: int) -> Path:
    """Make `path` with `mode`, or check that it is a real directory which only this user can write to.

    Raises RuntimeFaultError when someone else made it first, or it is a link: its content is then not
    to be trusted, and nothing is changed.
    """
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        found = os.lstat(path)
        others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or others_write:
            raise RuntimeFaultError(
                f"{path} was not made by this user alone and is not used; remove it, or set PANEL_DATA_DIR"
            ) from None
    else:
        # mkdir's mode is cut by the umask; nobody can have swapped what we own in a sticky directory.
        path.chmod(mode)
    return path


def own_directory(path: Path, *, mode: int = 0o700) -> Path:
    """Make `path` and what is missing above it, for this user alone; a directory that is there stays as it is."""
    if not path.is_dir():
        own_directory(path.parent)
        path.mkdir(mode=mode, exist_ok=True)
    return path


def close_to_others(directory: Path) -> None:
    """Take from others what earlier versions let them read: the files of `directory`, and the directories in it.

    As root the directories stay: PostgreSQL's own account passes through one of them.
    """
    for path in directory.iterdir():
        found = path.lstat()
        if found.st_uid != os.geteuid() or stat.S_ISLNK(found.st_mode):
            continue
        if stat.S_ISREG(found.st_mode) or (stat.S_ISDIR(found.st_mode) and os.geteuid() != 0):
            path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
