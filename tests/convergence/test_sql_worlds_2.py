"""Seeded worlds through real PostgreSQL and real runs, 150 to 299; every selection equals the unfiltered one.

All of them are for `make worlds`: the sample of a test run is in ``test_sql_worlds_1``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from tests.convergence.harness.sql_worlds import SqlWorlds, sql_worlds
from tests.convergence.harness.worlds import play_all

__all__ = ["sql_worlds"]

FIRST, LAST, BATCH = 150, 300, 15

pytestmark = pytest.mark.worlds


@pytest.mark.parametrize(("first", "count"), [(n, BATCH) for n in range(FIRST, LAST, BATCH)])
def test_worlds_converge_through_postgresql(
    sql_worlds: SqlWorlds, first: int, count: int, record_property: Callable[[str, object], None]
) -> None:
    compared = sql_worlds.compared
    tally = play_all(range(first, first + count), sql_worlds.play)
    record_property("worlds through PostgreSQL", asdict(tally))
    assert tally.writes > tally.stories, "the reconciler had something to do"
    assert tally.held <= max(1, tally.records * 0.02), "what people must look at is the exception"
    assert sql_worlds.compared - compared > tally.stories * 5, (
        "every run's selection was compared with the unfiltered one"
    )
