"""What a run is doing just now, on a terminal: a moving line, with a bar where the end is known."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from panel.terminal import SafeConsole, progress, styled


class RunProgress:
    """A context manager that a run tells what it does; nothing is printed where there is no terminal."""

    def __init__(self, console: SafeConsole) -> None:
        self._shown = progress(console)
        self._counted = progress(console, counted=True)
        self._live = self._shown
        self._on = console.is_terminal

    def __enter__(self) -> Self:
        if self._on:
            self._live = self._shown
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on:
            self._live.stop()

    def __call__(self, doing: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` (None: nobody knows how many)."""
        if not self._on:
            return
        wanted = self._shown if total is None else self._counted
        if wanted is not self._live:
            self._live.stop()
            self._live = wanted
            wanted.start()
        text = styled("", doing).plain
        if not wanted.tasks:
            wanted.add_task(text, total=total)
        wanted.update(wanted.tasks[0].id, description=text, completed=done, total=total)
