"""An advisory lock on a file. The kernel releases it when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from runtime.errors import InUseError


class FileLock:
    """An exclusive flock on `path`. The file holds the holder's process id, for the error message.

    Release leaves the file in place: after an unlink two holders could lock two different inodes.
    """

    def __init__(self, path: Path, *, what: str) -> None:
        self.path = path
        self._what = what
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock at once or raise InUseError, also if this object has it already."""
        if self._fd is not None:
            raise InUseError(f"{self._what} is already in use by this object")
        # O_NOFOLLOW: in a shared directory another user's link must not choose which file we write.
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            by = f"process {holder}" if holder else "another process"
            raise InUseError(f"{self._what} is in use by {by}; stop that process first") from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the lock back. Does nothing without it."""
        if self._fd is None:
            return
        os.ftruncate(self._fd, 0)
        # Unlock explicitly: a child forked without exec may still hold a copy of the descriptor.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)
        self._fd = None
