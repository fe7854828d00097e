"""What is due when, by a clock that only goes forward; and beat, which asks the database before it sends."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.beat import RETRY_S, Beat, BeatLock
from worker.schedule import Entry, Schedule

AT_MOST, JITTER = 120.0, 0.5


@given(seed=st.integers(), moment=st.floats(0, 1e9), jitter=st.floats(0, 0.9))
def test_an_interval_stays_within_its_bounds(seed: int, moment: float, jitter: float) -> None:
    after = Entry("one", AT_MOST, jitter).next_after(moment, random.Random(seed)) - moment
    assert AT_MOST * (1 - jitter) - 1e-3 <= after <= AT_MOST + 1e-3


def test_two_panels_part_and_no_two_intervals_are_alike() -> None:
    def times(seed: int) -> list[float]:
        schedule, at, found = Schedule([Entry("one", AT_MOST, JITTER)], 0.0, random.Random(seed)), 0.0, []
        for _ in range(20):
            assert [entry.task for entry in schedule.due(at)] == ["one"]
            found.append(at)
            at += schedule.wait_s(at)
        return found

    here, there = times(1), times(2)
    gaps = [late - early for early, late in pairwise(here)]
    assert len({round(gap, 3) for gap in gaps}) == len(gaps)
    assert len([a for a, b in zip(here[1:], there[1:], strict=True) if abs(a - b) < 1]) <= 2


def test_a_regular_one_keeps_its_interval_and_is_not_made_up_for() -> None:
    schedule = Schedule([Entry("one", 15.0), Entry("two", 60.0)], 100.0)
    assert [entry.task for entry in schedule.due(100.0)] == ["one", "two"]
    assert schedule.due(114.9) == []
    assert schedule.wait_s(114.9) == pytest.approx(0.1)
    assert [entry.task for entry in schedule.due(115.0)] == ["one"]
    assert [entry.task for entry in schedule.due(1000.0)] == ["one", "two"], "frozen for long, each is due once"
    assert schedule.due(1000.0) == []


class Lock(BeatLock):
    """A lock that is held or not, as the test says."""

    def __init__(self, *, held: bool) -> None:
        super().__init__("")
        self.answer = held

    def ask(self, entry: Entry) -> bool:  # noqa: ARG002 - the lock's
        return self.answer


@pytest.mark.parametrize(("held", "sent"), [(True, ["one"]), (False, [])], ids=["held", "lost"])
def test_it_sends_only_while_the_lock_is_held(held: bool, sent: list[str]) -> None:
    """A scheduler that lost its lock sends nothing, whatever is overdue."""
    seen: list[str] = []
    Beat(Lock(held=held), Schedule([Entry("one", 1.0)], 0.0), seen.append, lambda: 50.0).tick()
    assert seen == sent


def test_what_could_not_be_sent_is_tried_again() -> None:
    now, seen = [0.0], []

    def send(task: str) -> None:
        seen.append((now[0], task))
        if len(seen) == 1:
            raise OSError

    beat = Beat(Lock(held=True), Schedule([Entry("one", 3600.0)], 0.0), send, lambda: now[0])
    assert beat.tick() == RETRY_S
    now[0] = RETRY_S
    beat.tick()
    assert seen == [(0.0, "one"), (RETRY_S, "one")]
