"""The clocks, the sleep and the random numbers of the adapters, as one injectable value."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance for an adapter.

    ``monotonic``: seconds, for durations. ``wall``: this host's aware time, only for clock skew and for the age of
    a circuit breaker's pause. ``sleep``: seconds. ``chance``: uniform in [0, 1), for jitter.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = _utc_now
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


def http_date(text: str | None) -> datetime | None:
    """Read an HTTP ``Date`` (RFC 9110); ``None`` when there is none or it cannot be read."""
    if not text:
        return None
    try:
        value = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year or a zone of twenty digits overflows
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def rfc3339(text: str) -> datetime | None:
    """Read an RFC 3339 time as aware UTC; ``None`` when it is not one or names no zone."""
    try:
        value = datetime.fromisoformat(text)
        return None if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# A Date header has whole seconds and drops the rest, so the true time is up to this much later.
DATE_RESOLUTION_S = 1.0

# An as_of before EARLIEST counts as EARLIEST, and no age as more than OLDEST_S. Both are too old for everything. From
# the true age of an as_of of year 1, or of a Date of year 9999, no time could be reckoned.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
OLDEST_S = 1_000 * 365.25 * 86_400.0


def staleness_s(date: datetime | None, as_of: datetime | None) -> float | None:
    """How old, in seconds, content of the time ``as_of`` may have been when the answer was dated.

    Both times are the source's own clock, so its skew cancels. The ``Date`` header's resolution counts as age: stale
    content taken for fresh would undo a newer call, while fresh content taken for stale only waits for the next read.
    ``None`` if either is missing or ``as_of`` is later than ``Date``: then no age can be told.
    """
    if date is None or as_of is None:
        return None
    age = (date - max(as_of, EARLIEST)).total_seconds() + DATE_RESOLUTION_S
    return min(age, OLDEST_S) if age >= 0 else None


@dataclass(slots=True)
class Pacer:
    """Spaces calls evenly, over all threads: at most ``rate`` a second, no bursts."""

    rate: float
    clock: Clock
    _next_at: float = 0.0
    _turn: Lock = field(default_factory=Lock)

    def wait(self) -> None:
        """Pause until the next call may begin."""
        with self._turn:
            now = self.clock.monotonic()
            at = max(now, self._next_at)
            self._next_at = at + 1.0 / self.rate
        if at > now:
            self.clock.sleep(at - now)
