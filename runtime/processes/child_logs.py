"""The log file of one child process: private, rotated at each start and by size, and quoted in messages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import structlog

from runtime.private_directory import own_directory

_TAIL_BYTES_PER_LINE = 400

LOG_BYTES = 50 * 1024 * 1024
"""A log that has grown beyond this is moved to `<name>.1`, so that the logs of one process take about twice as much."""

_log = structlog.get_logger(__name__)


def rotate_log(path: Path) -> None:
    """Move the previous run's log to `<name>.1`. The log that was there is lost."""
    if path.exists():
        path.replace(path.with_name(path.name + ".1"))


def bound_logs(paths: Iterable[Path], limit: int = LOG_BYTES) -> None:
    """Move what is in each log that is too large to `<name>.1`, while its process goes on writing.

    The process keeps its descriptor, so the content is copied and the file emptied: it appends (`open_log`), so it goes
    on at the beginning. A line that is written between the two is lost.
    """
    for path in paths:
        try:
            if path.exists() and path.stat().st_size > limit:
                _move_content(path, path.with_name(path.name + ".1"))
        except OSError as error:
            _log.warning("log_not_moved", log=str(path), error=str(error))


def _move_content(path: Path, kept: Path) -> None:
    # No links are followed: a server's log lies in a directory that may be another user's.
    target = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(target, "wb") as copy, os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+b") as full:
        shutil.copyfileobj(full, copy, 1024 * 1024)
        full.truncate(0)


def open_log(path: Path) -> int:
    """Return a descriptor that appends to `path`, readable by its owner only."""
    own_directory(path.parent)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def tail(path: Path, lines: int) -> list[str]:
    """Return the last `lines` lines; none for a missing log. Reads only the end of the file."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - lines * _TAIL_BYTES_PER_LINE))
            text = log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


def with_tail(sentence: str, path: Path, lines: int = 12) -> str:
    """Return the sentence with the log's last lines, or with the note that the log is empty."""
    last = tail(path, lines)
    if not last:
        return f"{sentence} (its log {path} is empty)"
    return "\n".join([f"{sentence}; the last lines of {path}:", *(f"  {line}" for line in last)])
