"""The log file of one child process: private, rotated once per run, and quoted in messages."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.private_directory import own_directory

_TAIL_BYTES_PER_LINE = 400


def rotate_log(path: Path) -> None:
    """Move the previous run's log to `<name>.1`. The log that was there is lost."""
    if path.exists():
        path.replace(path.with_name(path.name + ".1"))


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
