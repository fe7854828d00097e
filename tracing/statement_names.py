"""What a statement is called in a trace: its first word and its table, never its text. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_WORD = re.compile(r"\s*([A-Za-z]{1,20})\b")
_TABLE = re.compile(
    r"\b(?:(?:INSERT INTO|UPDATE)\s+(?P<written>[a-z_][a-z0-9_]*)|FROM\s+(?P<read>[a-z_][a-z0-9_]*)\b(?!\s*\())"
)
"""A name before a bracket is a table after INSERT INTO, and a function after FROM."""


class StatementName(NamedTuple):
    """``operation``: such as SELECT. ``table``: the first that is named, or None."""

    operation: str
    table: str | None

    def __str__(self) -> str:
        return f"{self.operation} {self.table}" if self.table else self.operation


@lru_cache(maxsize=1024)
def statement_name(statement: str) -> StatementName:
    """The name of a statement as the driver gets it, with placeholders for its values."""
    first = _WORD.match(statement)
    operation = first[1].upper() if first else "OTHER"
    table = _TABLE.search(statement)
    return StatementName(operation, (table["written"] or table["read"]) if table else None)
