"""What the demo prints: headings, short sentences, a live line while it waits, a table. Plain text without a
terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from panel.terminal import SafeConsole, progress, styled, table

PLAIN_WIDTH = 140
COLUMNS = (("fault", 3), ("seen broken", 4), ("healed in", 2), ("journal's reason", 5))
"""The closing table's columns after the scene's, and their relative widths."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One line of the closing table: a fault, the harm it was seen to do, and how that ended.

    `healed` says when ("4.1 s"), or that nothing had to be repaired ("no need: 0 deletes in 17 s").
    """

    scene: str
    fault: str
    broken: str
    healed: str
    reason: str


class Waiting:
    """The live line of one wait: what it waits for, and the progress. Without a terminal each progress is a line."""

    def __init__(self, console: SafeConsole, what: str, live: Callable[[str], None] | None = None) -> None:
        self._console = console
        self._live = live
        self._began = time.monotonic()
        self._last = ""
        if live is None:
            console.print(f"  ... {what}")

    def show(self, news: str) -> None:
        """Show the progress. The same text is not shown twice in a row."""
        if news == self._last:
            return
        self._last = news
        if self._live is None:
            self._console.print(f"      {time.monotonic() - self._began:4.1f} s  {news}")
        else:
            self._live(news)


class Screen:
    """Prints to one console."""

    def __init__(self, console: SafeConsole) -> None:
        self._console = console

    def heading(self, title: str) -> None:
        """Print the title of a scene."""
        self._console.print()
        self._console.rule(styled("bold", title), align="left", style="dim")

    def say(self, text: str) -> None:
        """Print a sentence that explains."""
        self._console.print(f"  {text}")

    def call(self, text: str) -> None:
        """Print a real call and its answer."""
        self._console.print(" ", styled("cyan", ">"), text)

    def broken(self, text: str) -> None:
        """Print what is wrong now."""
        self._console.print(" ", styled("red", "broken "), text)

    def right(self, text: str) -> None:
        """Print what is right."""
        self._console.print(" ", styled("green", "right  "), text)

    def why(self, text: str) -> None:
        """Print the journal's reason."""
        self._console.print(" ", styled("dim", "because"), text)

    def paste(self, text: str) -> None:
        """Print a text to copy, never wrapped."""
        for line in text.split("\n"):
            self._console.print(line, soft_wrap=True)

    @contextmanager
    def waiting(self, text: str) -> Iterator[Waiting]:
        """A live line with the seconds passed, as long as the block lasts."""
        if not self._console.is_terminal:
            yield Waiting(self._console, text)
            return
        with progress(self._console) as line:
            task = line.add_task(text)
            yield Waiting(self._console, text, lambda news: line.update(task, description=f"{text}: {news}"))

    def table(self, sights: Iterable[Sight]) -> None:
        """Print the closing table."""
        rows = table(title="What was seen")
        rows.add_column("scene", no_wrap=True)
        for column, ratio in COLUMNS:
            rows.add_column(column, ratio=ratio, overflow="fold")
        for sight in sights:
            rows.add_row(sight.scene, sight.fault, sight.broken, sight.healed, sight.reason)
        self._console.print()
        self._console.print(rows)

    def failure(self, expected: str, seen: str, logs: Iterable[tuple[str, list[str]]]) -> None:
        """Print what went wrong, with the last lines of the logs that may say why."""
        self._console.print()
        self._console.print(styled("bold red", "The demo failed."))
        self._console.print(f"  expected  {expected}")
        self._console.print(f"  seen      {seen}")
        for name, lines in logs:
            self._console.print()
            self._console.print(" ", styled("bold", f"the last lines of {name}"))
            for line in lines or ["(empty)"]:
                self._console.print(f"    {line}", soft_wrap=True)
