"""Where commands print: results to stdout, remarks to stderr."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich import markup
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from panel.printable import printable


class SafeConsole(Console):
    """Whatever text is printed, customers' names among it, nothing of it commands the terminal."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - Console's own
        super().__init__(highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401
        """Rich calls this for every string; line breaks are the callers' own."""
        return super().render_str(printable(text, keep="\n"), **options)


class SafeTable(Table):
    """A table in which no cell starts a line of its own."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:  # noqa: ANN401
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)


out = SafeConsole()
err = SafeConsole(stderr=True)


def escape(text: str) -> str:
    """Text of somebody else inside a line with markup: neither markup nor a line break of its own."""
    return markup.escape(printable(text))


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the house's plain style."""
    made = SafeTable(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def moment(at: datetime | None) -> str:
    """A time to the second, UTC as everywhere."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
