"""When an event is sent again that the main site did not take, and when it is given up. Pure except for the jitter."""

from __future__ import annotations

import random
from datetime import timedelta

from domain.backoff import Backoff

DELAYS_S = (5, 30, 300, 1_800, 7_200, 18_000, 36_000)
"""After the first failed try, the second, and so on. After the last, again and again."""

JITTER = 0.2
"""A delay is up to this share longer, so that what failed together does not come again together."""

GIVEN_UP_AFTER = timedelta(days=3)
"""From an event's first try. What fails later than this is dead, until an operator sends it again."""

AWAY = Backoff(timedelta(seconds=5), timedelta(minutes=5))
"""While the main site takes nothing at all, one event is tried after each of these pauses."""

LONGEST_ASKED_S = 3600.0
"""The longest ``Retry-After`` that is obeyed."""


def delay(attempts: int, rng: random.Random | None = None) -> timedelta:
    """How long an event waits after so many failed tries (at least one)."""
    seconds = DELAYS_S[min(attempts, len(DELAYS_S)) - 1]
    return timedelta(seconds=seconds * (1 + JITTER * (rng or random.Random()).random()))


def pause(tries: int, asked_s: float | None) -> timedelta:
    """How long nothing is sent after so many tries (at least one) that found the main site away. ``asked_s``: what its
    answer asked for."""
    asked = timedelta(seconds=min(max(asked_s or 0.0, 0.0), LONGEST_ASKED_S))
    return max(AWAY.pause(tries), asked)
