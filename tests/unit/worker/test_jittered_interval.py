"""When a jittered schedule is due: within its bounds, steady while beat asks, another for every panel."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from celery.beat import ScheduleEntry
from hypothesis import given
from hypothesis import strategies as st

from worker.jitter import JitteredInterval

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
AT_MOST, JITTER = 120.0, 0.5


def scheduled(now: datetime, seed: str = "panel", jitter: float = JITTER) -> JitteredInterval:
    return JitteredInterval(AT_MOST, jitter, seed=seed, nowfun=lambda: now)


@given(seed=st.text(max_size=8), second=st.integers(0, 10**6), jitter=st.floats(0, 0.9))
def test_the_interval_stays_within_its_bounds(seed: str, second: int, jitter: float) -> None:
    last = NOON + timedelta(seconds=second)
    drawn = scheduled(last, seed, jitter).interval_after(last).total_seconds()
    assert AT_MOST * (1 - jitter) - 1e-5 <= drawn <= AT_MOST + 1e-5


def test_it_is_due_when_its_draw_is_over_and_not_before() -> None:
    drawn = scheduled(NOON).interval_after(NOON)
    early = scheduled(NOON + drawn - timedelta(seconds=1)).is_due(NOON)
    assert (early.is_due, round(early.next)) == (False, 1)
    due = scheduled(NOON + drawn).is_due(NOON)
    assert (due.is_due, due.next) == (True, AT_MOST * (1 - JITTER))


def test_asked_again_it_says_the_same() -> None:
    one = scheduled(NOON)
    assert {one.interval_after(NOON) for _ in range(5)} == {one.interval_after(NOON)}


def test_two_panels_part_and_no_two_intervals_are_alike() -> None:
    def times(seed: str) -> list[float]:
        at, found, one = NOON, [], scheduled(NOON, seed)
        for _ in range(20):
            at += one.interval_after(at)
            found.append((at - NOON).total_seconds())
        return found

    here, there = times("here"), times("there")
    gaps = [late - early for early, late in pairwise(here)]
    assert len({round(gap, 3) for gap in gaps}) == len(gaps)
    together = [a for a, b in zip(here, there, strict=True) if abs(a - b) < 1]
    assert len(together) <= 2
    assert JitteredInterval(AT_MOST, JITTER).interval_after(NOON) != JitteredInterval(AT_MOST, JITTER).interval_after(
        NOON
    ), "every process has a seed of its own"


def test_beat_keeps_it_in_its_file_and_knows_a_change() -> None:
    one = scheduled(NOON)
    kept = pickle.loads(pickle.dumps(one))  # noqa: S301 - as beat does with its own file
    assert kept == one
    assert hash(kept) == hash(one)
    assert kept != JitteredInterval(AT_MOST, 0.1)
    assert kept != JitteredInterval(60, JITTER)


def test_beat_s_entry_runs_it_as_often_as_drawn() -> None:
    """Asked as beat asks, every few seconds, for ten hours of a clock that is moved by hand."""
    now = [NOON]
    every = JitteredInterval(AT_MOST, JITTER, seed="x", nowfun=lambda: now[0])
    entry, sent = ScheduleEntry(name="one", task="one", schedule=every, last_run_at=NOON), []
    while now[0] < NOON + timedelta(hours=10):
        due, again_s = entry.is_due()
        if due:
            entry = entry.next(now[0])
            sent.append(now[0])
        now[0] += timedelta(seconds=max(1.0, min(again_s, 5.0)))
    gaps = [(late - early).total_seconds() for early, late in pairwise(sent)]
    assert 36000 / AT_MOST <= len(sent) <= 36000 / (AT_MOST * (1 - JITTER))
    assert min(gaps) < 70
    assert max(gaps) > 110
    assert max(gaps) <= AT_MOST + 5
