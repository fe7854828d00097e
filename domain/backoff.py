"""How long the panel leaves alone what failed: twice as long after each failure, up to a limit. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

DOUBLINGS = 16
"""Enough to reach every limit in use. Without this bound, about fifty failures in a row would overflow a
timedelta."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """The first and the longest pause."""

    first: timedelta
    longest: timedelta

    def pause(self, failures: int) -> timedelta:
        """The pause after this many failures in a row (at least one)."""
        return min(self.longest, self.first * (1 << min(failures - 1, DOUBLINGS)))

    def lasts(self, until: datetime | None, now: datetime) -> bool:
        """Whether a pause that ends at ``until`` still lasts. If more of it is left than the longest pause, the clock
        jumped back, and the pause counts as over."""
        return until is not None and timedelta() < until - now <= self.longest
