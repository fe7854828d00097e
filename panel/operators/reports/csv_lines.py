"""CSV as RFC 4180 says: UTF-8, a header line, CRLF, quotes where they are needed. Safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, Protocol

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""With these a spreadsheet takes a cell for a formula."""


class Writable(Protocol):
    """Where lines go: a text file, or what looks like one."""

    def write(self, text: str, /) -> object: ...


@contextmanager
def as_text(file: IO[bytes]) -> Iterator[Writable]:
    """The file for text, for a while. It stays open, also if writing fails: the output of a command is such a file."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    try:
        yield text
    finally:
        text.detach()


def cell(value: object) -> str:
    """A value as a cell: times in ISO 8601, nothing for None. A text that a spreadsheet would take for a formula gets
    an apostrophe before it. Numbers stay as they are."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text


def write_csv(out: Writable, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the header and a line for each row, one after the other."""
    lines = csv.writer(out, lineterminator="\r\n")
    lines.writerow(columns)
    for row in rows:
        lines.writerow([cell(row[column]) for column in columns])
