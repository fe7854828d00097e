"""The files in which processes that are scraped together keep their numbers, one set for each process.

``PROMETHEUS_MULTIPROC_DIR`` names their directory; ``panel-sync`` sets it (docs/monitoring.md). Without it each process
keeps its numbers in its own memory. The files are mapped into memory, so to count costs no system call.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
from prometheus_client import Metric, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

log = structlog.get_logger(__name__)

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

FILE_BYTES = {"counter": 1 << 17, "histogram": 1 << 19, "gauge_livesum": 1 << 16, "gauge_max": 1 << 16}
"""Kind of file -> how much disk a process reserves for it. Label sets are bounded, and need less than half of this."""

DEAD = 0
"""The process id under which the numbers of dead processes are kept. No process has it."""

LOCK_S = 1.0
"""For how many seconds at most a scrape waits for another one."""


class BusyError(Exception):
    """Another scrape did not end in time."""


class Reserved:
    """Whether this process may count: its files have their room on the disk.

    A write to a mapped file for which the disk has no room ends the process (SIGBUS). So the room is reserved before
    the library maps the files, and a process that gets none counts nothing that others see.
    """

    def __init__(self) -> None:
        self.directory: Path | None = None
        self.may_count = True
        name = os.environ.get(VARIABLE)
        if name and self._reserve(Path(name)):
            self.directory = Path(name)
            os.register_at_fork(after_in_child=self._after_fork)
        else:
            values.ValueClass = values.MutexValue  # the library chose by the variable alone

    def _after_fork(self) -> None:
        assert self.directory is not None  # noqa: S101 - for the type checker
        self.may_count = self._reserve(self.directory)

    @staticmethod
    def _reserve(directory: Path) -> bool:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for kind in FILE_BYTES:
                _reserve_file(directory, kind, os.getpid())
        except OSError as error:
            log.warning("metrics_not_kept", error=type(error).__name__, why=error.strerror)
            return False
        return True


def _reserve_file(directory: Path, kind: str, pid: int) -> Path:
    """A file with its room on the disk. Raises OSError if the disk is full."""
    path = directory / f"{kind}_{pid}.db"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, FILE_BYTES[kind])
    finally:
        os.close(file)
    return path


def read_together(directory: Path) -> list[Metric]:
    """The numbers of all processes, added up. What dead processes counted stays; what they were doing goes.

    Raises BusyError if another scrape does not end within ``LOCK_S``.
    """
    with _locked(directory):
        _fold_dead(directory)
        # A file is empty for the moment between its creation and its first use.
        files = [str(path) for path in directory.glob("*.db") if path.stat().st_size]
        return list(MultiProcessCollector.merge(files))


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """The right to fold and read. Two that fold at once would count the dead twice."""
    file = os.open(directory / "scrape.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_S
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BusyError from None
                time.sleep(0.01)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a pool process that was forked meanwhile holds the file, too
    finally:
        os.close(file)


def _fold_dead(directory: Path) -> None:
    """Move the numbers of processes that ended into one set of files. Else every pool process that was ever replaced
    would leave files, and each scrape would read them all."""
    for path in sorted(directory.glob("*_*.db")):
        kind, _, pid = path.stem.rpartition("_")
        if kind not in FILE_BYTES or not pid.isdigit() or int(pid) == DEAD or _lives(int(pid)):
            continue
        if not kind.startswith("gauge_live"):
            try:
                _add(kind, path, _reserve_file(directory, kind, DEAD))
            except OSError:  # the disk is full: the dead keep their own files until it is not
                return
        path.unlink()


def _add(kind: str, ended: Path, kept: Path) -> None:
    numbers = MmapedDict(str(kept))
    try:
        for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(ended)):
            before, _ = numbers.read_value(key)
            numbers.write_value(key, max(before, value) if kind == "gauge_max" else before + value, timestamp)
    finally:
        numbers.close()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
