"""Whatever hangs, the part that hangs gives up first, and an answer comes in time."""

from __future__ import annotations

import pytest

from panel.deadlines import Deadlines


@pytest.mark.parametrize("answer_within_s", [1.0, 2.0, 60.0])
def test_each_deadline_is_within_the_one_around_it(answer_within_s: float) -> None:
    d = Deadlines(answer_within_s)
    assert 0 < d.lock_s < d.connection_s < d.transaction_s < d.queue_s < answer_within_s
    assert 0 < d.begin_s < d.queue_s
    assert d.connection_s < d.read_s < answer_within_s
    assert d.remember_s < answer_within_s < d.statement_s, "PostgreSQL ends only what nobody waits for any more"


def test_a_read_gets_what_the_keys_left_of_the_time_and_never_nothing() -> None:
    d = Deadlines(2.0)
    assert d.left_to_read_s(0.0) == d.read_s
    assert d.left_to_read_s(1.0) == pytest.approx(d.read_s - 1.0)
    assert d.left_to_read_s(1.5) == pytest.approx(0.1)
    assert d.left_to_read_s(30.0) == pytest.approx(0.1)


def test_the_keys_and_the_least_read_are_in_time_together() -> None:
    d = Deadlines(2.0)
    assert d.keys_s + d.left_to_read_s(d.keys_s) < 2.0
