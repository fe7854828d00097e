"""Seeded worlds through the pure core, the second half of 10,000; most of them by `make worlds`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from tests.convergence.harness.panel import without_database
from tests.convergence.harness.worlds import play_all

BATCHES = ((5050, 450), *((n, 500) for n in range(5500, 10000, 500)))


@pytest.mark.parametrize(
    ("first", "count"),
    [(5000, 50), *(pytest.param(*b, marks=pytest.mark.worlds) for b in BATCHES)],
)
def test_worlds_converge_and_nothing_is_ever_written_wrongly(
    first: int, count: int, record_property: Callable[[str, object], None]
) -> None:
    with without_database():
        tally = play_all(range(first, first + count))
    record_property("fast worlds", asdict(tally))
    assert tally.writes > tally.stories, "the reconciler had something to do"
    # 0.77 % of 10,000 worlds; a part of 500 may have twice as many.
    assert tally.held <= tally.records * 0.02, "what people must look at is the exception"
