"""Seeded worlds through real PostgreSQL and real runs, 150 to 299; every selection equals the unfiltered one."""

from __future__ import annotations

import pytest

from tests.convergence.sql_worlds import SqlWorlds, sql_worlds
from tests.convergence.worlds import play_all

__all__ = ["sql_worlds"]


@pytest.mark.parametrize(
    ("first", "count"),
    [(150, 3), *(pytest.param(n, 3, marks=pytest.mark.soak) for n in range(153, 300, 3))],
)
def test_worlds_converge_through_postgresql(sql_worlds: SqlWorlds, first: int, count: int) -> None:
    tally = play_all(range(first, first + count), sql_worlds.play)
    assert tally.writes > tally.stories, "the reconciler had something to do"
    assert sql_worlds.compared > tally.stories * 5, "every run's selection was compared with the unfiltered one"
