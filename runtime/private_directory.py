"""A directory of our own in a place that others can write to too."""

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
