"""COPY into a run's temporary tables: rows by the driver, or lines of text that were made already.

A read may bring a million rows, and for each the driver takes as long as all else together. Where most of a row is the
same for thousands, its text is made once and used for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection

from panel.sessions import driver_connection, keep_values_out

_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_rows(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Stream rows into a temporary table. Returns how many. ANALYZE must follow: without statistics the planner takes
    the table for so large that it reads the other tables whole."""
    count = 0
    try:
        with driver_connection(connection).cursor() as cursor, cursor.copy(_statement(table, columns)) as copy:
            for row in rows:
                copy.write_row(row)
                count += 1
    except psycopg.Error as error:  # raised by the driver itself, so SQLAlchemy's listener does not see it
        keep_values_out(error)
        raise
    return count


def copy_lines(connection: Connection, table: str, columns: Sequence[str], lines: Iterable[str]) -> None:
    """The same with lines of values as ``copied`` writes them, parted by tabs, each with its line's end."""
    try:
        with driver_connection(connection).cursor() as cursor, cursor.copy(_statement(table, columns)) as copy:
            copy.write("".join(lines))
    except psycopg.Error as error:
        keep_values_out(error)
        raise


def copied(value: str | float | None) -> str:
    """A value as COPY reads it."""
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPED)
    return str(value)  # also of a truth value


def _statement(table: str, columns: Sequence[str]) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
