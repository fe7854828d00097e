"""How long each phase of a run took, and what it is doing now."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Tell = Callable[[str, int, int | None], None]
"""Told what a run is doing: a few words, how much of it is done, and of how much (None: nobody knows)."""


def tell_nobody(_doing: str, _done: int, _total: int | None) -> None:
    """For runs that nobody watches."""


NEXT = {
    "read_ahead": "waiting for the lease",
    "lease": "reading Proxmox",
    "clusters": "comparing power states",
    "power": "comparing orders",
    "orders": "reading who guests are",
    "fingerprints": "selecting what differs",
    "select": "deciding",
    "decide": "measuring against the limits",
    "gate": "applying",
    "apply": "reporting",
}
"""What a run does after each phase."""


@dataclass(slots=True)
class Phases:
    """A stopwatch with laps, on a monotonic clock (seconds)."""

    clock: Callable[[], float] = time.monotonic
    tell: Tell = tell_nobody
    spent: dict[str, float] = field(default_factory=dict)
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def end(self, phase: str) -> None:
        """What was done since the last phase ended was this one; one that comes again adds up."""
        now = self.clock()
        self.spent[phase] = self.spent.get(phase, 0.0) + now - self._since
        self._since = now
        if phase in NEXT:
            self.tell(NEXT[phase], 0, None)

    def seconds(self) -> dict[str, float]:
        """By phase, to the millisecond."""
        return {phase: round(spent, 3) for phase, spent in self.spent.items()}
