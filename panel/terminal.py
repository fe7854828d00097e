"""The only module that passes text to Rich. It reads no text as markup, and escapes what would control the terminal.

Names, content types and addresses come from outside. Rich would take ``[/x]`` in them for markup and fail, or print
``[link=...]`` as a link. So markup is switched off on these consoles, and :func:`styled` makes coloured text. A test
forbids the command line's code to import Rich anywhere else.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TimeElapsedColumn,
)
from rich.status import Status
from rich.table import Table
from rich.text import Text

from panel.printable import printable

Piece = str | Text
"""Something to print: a string as it is, or a result of :func:`styled`."""


class SafeConsole(Console):
    """A console that prints every string as it is, on one line, with control characters shown as escapes."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - Console's own
        super().__init__(**{**options, "highlight": False, "emoji": False, "markup": False})

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - Console's own
        """Rich calls this for every string, also in tables, titles and headings."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False, "highlight": False})

    def waiting(self, text: str = "") -> Status:
        """A live line on a terminal. Update it with :func:`styled`, because it reads a plain string as markup."""
        return self.status(styled("", text))


class SafeTable(Table):
    """A table whose cells are strings, printed as they are, or results of :func:`styled`."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:  # noqa: ANN401 - Table's own
        for cell in cells:
            if not (cell is None or isinstance(cell, str | Text)):
                raise TypeError(f"a cell must be a string or a result of styled(), not {type(cell).__name__}")
        super().add_row(*(styled("", cell) if isinstance(cell, str) else cell for cell in cells), **options)


class _Description(ProgressColumn):
    """A progress line's text. Rich's own column reads it as markup."""

    def render(self, task: Task) -> Text:
        return styled("", task.description)


def styled(style: str, text: str) -> Text:
    """The text in that style ("bold red"; "" for none), on one line, without markup and control characters."""
    return Text(printable(text), style=style)


def table(*columns: str, title: str | None = None) -> SafeTable:
    """An empty table in the house's plain style."""
    empty = SafeTable(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        empty.add_column(column, overflow="fold")
    return empty


def progress(console: SafeConsole, *, counted: bool = False) -> Progress:
    """A live line with a spinner, the text, the time passed, and with ``counted`` a bar and "3/10".

    It vanishes at its end, and shows nothing without a terminal.
    """
    counts: tuple[ProgressColumn, ...] = (BarColumn(), MofNCompleteColumn()) if counted else ()
    spinner = SpinnerColumn("line")  # of ASCII characters
    return Progress(spinner, _Description(), *counts, TimeElapsedColumn(), console=console, transient=True)
