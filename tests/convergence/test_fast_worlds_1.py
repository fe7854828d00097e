"""Seeded worlds through the pure core, 0 to 4999: in files, since test processes share them out by file."""

from __future__ import annotations

import pytest

from tests.convergence.panel import without_database
from tests.convergence.worlds import play_all


@pytest.mark.parametrize("first", range(0, 5000, 1000))
def test_worlds_converge_and_nothing_is_ever_written_wrongly(first: int) -> None:
    with without_database():
        tally = play_all(range(first, first + 1000))
    assert tally.writes > tally.stories, "the reconciler had something to do"
    assert tally.held <= tally.records * 0.01, "what people must look at is the exception"
