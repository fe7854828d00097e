"""Where commands print: results to stdout, remarks to stderr."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the house's plain style."""
    made = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def moment(at: datetime | None) -> str:
    """A time to the second, UTC as everywhere."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
