"""For how long what failed is left alone: twice as long after each failure, up to a limit. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

DOUBLINGS = 16
"""Enough for any limit here, and no number that a time cannot hold."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """The first and the longest pause."""

    first: timedelta
    longest: timedelta

    def pause(self, failures: int) -> timedelta:
        """The pause after so many failures in a row, at least one."""
        return min(self.longest, self.first * (1 << min(failures - 1, DOUBLINGS)))

    def lasts(self, until: datetime | None, now: datetime) -> bool:
        """Whether a pause ``until`` then still lasts. One longer than any that was ever set is a clock that jumped
        back."""
        return until is not None and timedelta() < until - now <= self.longest
