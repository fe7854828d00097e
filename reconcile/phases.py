"""How long each phase of a run took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Phases:
    """A stopwatch with laps, on a monotonic clock (seconds)."""

    clock: Callable[[], float] = time.monotonic
    spent: dict[str, float] = field(default_factory=dict)
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def end(self, phase: str) -> None:
        """What was done since the last phase ended was this one; one that comes again adds up."""
        now = self.clock()
        self.spent[phase] = self.spent.get(phase, 0.0) + now - self._since
        self._since = now

    def seconds(self) -> dict[str, float]:
        """By phase, to the millisecond."""
        return {phase: round(spent, 3) for phase, spent in self.spent.items()}
