"""How long calls took, told by what was failing when they were made."""

from __future__ import annotations

import pytest

from lab.chaos.phases import FEWEST, P99_S, Failing, Phase, phases

FAILING = [Failing("redis", 10.0, 20.0), Failing("postgres", 15.0, 18.0), Failing("workers", 16.0, 30.0)]


@pytest.mark.parametrize(
    ("at", "name"),
    [(5.0, "calm"), (10.0, "redis"), (16.5, "postgres"), (19.0, "redis"), (25.0, "workers"), (31.0, "calm")],
    ids=["before", "one", "the worst of three", "the worst of two", "the last one", "after"],
)
def test_a_call_counts_for_the_worst_of_what_failed(at: float, name: str) -> None:
    assert [phase.name for phase in phases([at], [0.1], FAILING)] == [name]


def test_the_shares() -> None:
    (calm,) = phases([float(n) for n in range(100)], [n / 1000 for n in reversed(range(100))], [])
    assert calm == Phase("calm", 100, 0.05, 0.099, 0.099)
    assert phases([], [], FAILING) == []


@pytest.mark.parametrize(
    ("phase", "broken"),
    [
        (Phase("redis", FEWEST, 0.01, P99_S, 1.0), True),
        (Phase("redis", FEWEST, 0.01, P99_S - 0.01, 1.0), False),
        (Phase("redis", FEWEST - 1, 0.01, P99_S, 1.0), False),
        (Phase("postgres", FEWEST, 0.01, P99_S, 1.0), False),
    ],
    ids=["too slow", "in time", "too few to tell", "nothing was promised"],
)
def test_the_promise(phase: Phase, *, broken: bool) -> None:
    assert (phase.broken_promise is not None) is broken
