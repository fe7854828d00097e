"""A moving line on a terminal that shows what a command is doing, with a bar if the total is known."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from cli.output.console import err
from panel.terminal import progress, styled


class Working:
    """A context manager for work of more than two seconds. The work calls it with its present step, and it shows that
    step on stderr if stderr is a terminal. Nothing else may print meanwhile."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._shown = progress(err)
        self._counted = progress(err, counted=True)
        self._live = self._shown
        self._on = err.is_terminal

    def __enter__(self) -> Self:
        if self._on:
            self._live = self._shown
            self._live.start()
            self(self._doing, 0, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on:
            self._live.stop()

    def __call__(self, doing: str, done: int, total: int | None) -> None:
        """Show the step ``doing``, and ``done`` of ``total`` (None: unknown)."""
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
        new = wanted.tasks[0].description != text or not done
        wanted.update(wanted.tasks[0].id, description=text, completed=done, total=total, refresh=new)
