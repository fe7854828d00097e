"""The phases of a run: how long each took, and what a person at a terminal is shown meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tracing.spans import Laps

Progress = Callable[[str, int, int | None], None]
"""Takes what a run is doing: a few words, how much of it is done, and of how much (None: not known)."""


def no_progress(_doing: str, _done: int, _total: int | None) -> None:
    """For runs that no person watches."""


NEXT = {
    "read_ahead": "waiting for the lease",
    "lease": "reading Proxmox",
    "clusters": "comparing power states",
    "power": "comparing orders",
    "orders": "reading the identity of guests",
    "fingerprints": "selecting what differs",
    "select": "deciding",
    "decide": "measuring against the limits",
    "gate": "applying",
    "apply": "reporting",
}
"""What a run does after each phase."""


@dataclass(slots=True)
class Phases:
    """A stopwatch with laps, on a monotonic clock (seconds). Each lap is a span of the run's trace, too."""

    clock: Callable[[], float] = time.monotonic
    progress: Progress = no_progress
    spent: dict[str, float] = field(default_factory=dict)
    _since: float = field(init=False)
    _laps: Laps = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()
        self._laps = Laps()

    def end(self, phase: str) -> None:
        """End a phase: the time since the end of the last one belongs to it. A phase that comes again adds up."""
        now = self.clock()
        self.spent[phase] = self.spent.get(phase, 0.0) + now - self._since
        self._since = now
        self._laps.end(phase)
        if phase in NEXT:
            self.progress(NEXT[phase], 0, None)

    def close(self) -> None:
        """The run is over, whether well or not."""
        self._laps.close()

    def seconds(self) -> dict[str, float]:
        """By phase, to the millisecond."""
        return {phase: round(spent, 3) for phase, spent in self.spent.items()}
