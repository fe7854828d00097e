"""The directory for everything that the embedded servers and supervised processes write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import runtime
from runtime.errors import RuntimeFaultError
from runtime.file_lock import FileLock
from runtime.private_directory import close_to_others, own_directory

DATA_DIR_VARIABLE = "PANEL_DATA_DIR"


def default_data_dir(environ: Mapping[str, str], working_dir: Path) -> Path:
    """Return $PANEL_DATA_DIR, else `.data` in the project's checkout, else `.data` in `working_dir`."""
    configured = environ.get(DATA_DIR_VARIABLE, "").strip()
    if configured:
        return Path(configured).expanduser().resolve()
    checkout = Path(runtime.__file__).resolve().parent.parent
    base = checkout if (checkout / "pyproject.toml").is_file() else working_dir
    return (base / ".data").resolve()


class DataDirectory:
    """The directory with postgres/, redis/, logs/ and metrics/ under `root`, for one run at a time and this user alone.

    As a context manager it makes the directory and takes its lock (InUseError if another run has it).
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: FileLock | None = None

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def metrics(self) -> Path:
        """What the processes of this run count. It is empty at each start."""
        return self.root / "metrics"

    def log_path(self, process: str) -> Path:
        """Return the log file of the named process."""
        return self.logs / f"{process}.log"

    def beats_path(self, process: str) -> Path:
        """Return the file that the named process writes while it is healthy."""
        return self.logs / f"{process}.beat"

    def acquire(self) -> None:
        """Make the directory and take its lock. Raises InUseError if another run has it."""
        lock = FileLock(self.root / "run.lock", what=f"the data directory {self.root}")
        try:
            own_directory(self.logs)
            own_directory(self.metrics)
            lock.acquire()
            for counted in self.metrics.iterdir():
                counted.unlink()
            close_to_others(self.root)
            close_to_others(self.logs)
        except PermissionError as error:
            raise RuntimeFaultError(
                f"{self.root} can't be written by this user; set {DATA_DIR_VARIABLE} to a directory that can"
            ) from error
        self._lock = lock

    def release(self) -> None:
        """Give the lock back. Does nothing without it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
