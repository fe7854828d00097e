"""The soak's own judgement: growth and new connections are seen, noise is not."""

from __future__ import annotations

import random

from tests.soak.measured import MB, Measured, Sample


def _samples(*, leak: float = 0.0, connections: list[int] | None = None) -> Measured:
    """A hundred seconds of a process of 100 MB with noise of a page or two; ``leak`` in bytes a second."""
    noise = random.Random(1)
    taken = connections or [4] * 100
    return Measured(
        [
            Sample(float(at), {"api 1": int(100 * MB + leak * at + noise.randint(0, 8192))}, {"redis": taken[at]})
            for at in range(100)
        ]
    )


def test_a_steady_process_has_no_slope() -> None:
    assert abs(_samples().slopes()["api 1"]) * 600 / MB < 0.05


def test_a_leak_has_one() -> None:
    slope = _samples(leak=2 * MB / 600).slopes()["api 1"]
    assert 1.9 < slope * 600 / MB < 2.1


def test_a_process_that_came_later_is_not_judged() -> None:
    measured = _samples()
    measured.samples[50] = Sample(50.0, {}, {"redis": 4})
    assert measured.slopes() == {}


def test_only_what_comes_after_the_warm_up_counts() -> None:
    assert [sample.at_s for sample in _samples().after(98).samples] == [98.0, 99.0]


def test_connections_may_come_and_go_but_not_grow() -> None:
    assert _samples(connections=[4, 6] * 50).grown_connections() == []
    assert _samples(connections=[4] * 60 + [6] + [4] * 39).grown_connections() == []
    assert _samples(connections=[4] * 70 + [5] * 30).grown_connections() == ["redis: 4 -> 5"]


def test_the_table_tells_both() -> None:
    assert "api 1" in _samples().table()
    assert "4 to 4 connections" in _samples().table()
