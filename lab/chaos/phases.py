"""Which part was failing when a call was made, and how long calls took while it failed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CALM = "calm"
WORST_FIRST = ("postgres", "api", "redis", "beats", "workers", "poison")
"""If several parts fail at once, the time counts for the part that callers feel most."""

PROMISED = ("poison", "workers", "beats", "redis")
"""Parts whose failures must not slow answers: 99 of 100 come within ``P99_S``, all within two seconds."""

P99_S = 0.5
FEWEST = 200
"""With fewer answers than this the 99th percentile is not judged."""


@dataclass(frozen=True, slots=True)
class Failing:
    """A time in which a part failed. ``since``, ``until``: seconds of the monotonic clock."""

    place: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Phase:
    """How long all answers took while one part was failing, in seconds."""

    name: str
    answers: int
    p50_s: float
    p99_s: float
    slowest_s: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.answers} answers, p50 {1000 * self.p50_s:.0f} ms, p99 {1000 * self.p99_s:.0f} ms,"
            f" slowest {self.slowest_s:.2f} s"
        )

    @property
    def broken_promise(self) -> str | None:
        """A sentence if the 99th percentile is worse than promised."""
        if self.name not in PROMISED or self.answers < FEWEST or self.p99_s < P99_S:
            return None
        return f"while {self.name} failed 1 answer of 100 took {self.p99_s:.2f} s or longer"


def phases(asked_at: Sequence[float], took_s: Sequence[float], failing: Sequence[Failing]) -> list[Phase]:
    """The calls by the part that was failing when they were made, calm first. Every call counts once."""
    by_name: dict[str, list[float]] = {}
    for name, took in _named(sorted(zip(asked_at, took_s, strict=True)), sorted(failing, key=lambda f: f.since)):
        by_name.setdefault(name, []).append(took)
    return [_phase(name, sorted(by_name[name])) for name in (CALM, *reversed(WORST_FIRST)) if name in by_name]


def _named(calls: Iterable[tuple[float, float]], failing: Sequence[Failing]) -> Iterable[tuple[str, float]]:
    later, now = list(reversed(failing)), list[Failing]()
    for at, took in calls:
        while later and later[-1].since <= at:
            now.append(later.pop())
        now = [failure for failure in now if failure.until >= at]
        places = {failure.place for failure in now}
        yield next((place for place in WORST_FIRST if place in places), CALM), took


def _phase(name: str, took_s: Sequence[float]) -> Phase:
    def within(share: float) -> float:
        return took_s[min(len(took_s) - 1, int(len(took_s) * share))]

    return Phase(name, len(took_s), within(0.5), within(0.99), took_s[-1])
