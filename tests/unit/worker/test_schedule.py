"""What is due when, by a clock that only goes forward; and beat, which asks the database before it sends."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from celery import Celery
from celery.schedules import crontab
from hypothesis import given
from hypothesis import strategies as st

from panel.runs.schedule_duties import LANES
from panel.settings import load_settings
from worker.beat import CHECK_S, RETRY_S, BeatLock, Scheduler
from worker.schedule import Entry, Schedule, beat_schedule, entries_of

AT_MOST, JITTER = 120.0, 0.5


@given(seed=st.integers(), moment=st.floats(0, 1e9), jitter=st.floats(0, 0.9))
def test_an_interval_stays_within_its_bounds(seed: int, moment: float, jitter: float) -> None:
    after = Entry("one", AT_MOST, jitter).next_after(moment, random.Random(seed)) - moment
    assert AT_MOST * (1 - jitter) - 1e-3 <= after <= AT_MOST + 1e-3


def test_beat_counts_seconds_and_not_the_time_of_day() -> None:
    assert Scheduler.clock is time.monotonic


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
    """A lock that is held, or was lost a moment ago, as the test says."""

    def __init__(self, *, held: bool) -> None:
        super().__init__("")
        self.answer = held

    def hold(self) -> bool:
        return True

    def ask(self, entry: Entry) -> bool:  # noqa: ARG002 - the lock's
        return self.answer


def scheduler(lock: BeatLock, every_s: float, send: Callable[[str], None], clock: Callable[[], float]) -> Scheduler:
    app = Celery(set_as_current=False)
    app.conf.beat_schedule = {"one": {"task": "one", "schedule": every_s}}
    made = Scheduler(app, lazy=True)
    made.lock, made.send, made.clock = lock, send, clock
    return made


@pytest.mark.parametrize(("held", "sent"), [(True, ["one"]), (False, [])], ids=["held", "lost"])
def test_it_sends_only_while_the_lock_is_held(held: bool, sent: list[str]) -> None:
    """A scheduler that lost its lock sends nothing, whatever is overdue."""
    seen: list[str] = []
    scheduler(Lock(held=held), 1.0, seen.append, lambda: 50.0).tick()
    assert seen == sent


def test_one_that_stands_by_asks_for_nothing_and_for_everything_once_it_may() -> None:
    seen: list[str] = []
    beat = scheduler(Lock(held=True), 3600.0, seen.append, lambda: 50.0)
    beat.tick()
    beat.tick()
    assert seen == ["one"]
    beat.lock.hold = lambda: False  # type: ignore[method-assign]
    assert beat.tick() == CHECK_S
    beat.lock.hold = lambda: True  # type: ignore[method-assign]
    beat.tick()
    assert seen == ["one", "one"], "another may have asked meanwhile, or nobody"


def test_what_could_not_be_sent_is_tried_again() -> None:
    now, seen = [0.0], []

    def send(task: str) -> None:
        seen.append((now[0], task))
        if len(seen) == 1:
            raise OSError

    beat = scheduler(Lock(held=True), 3600.0, send, lambda: now[0])
    assert beat.tick() == CHECK_S
    now[0] = RETRY_S
    beat.tick()
    assert seen == [(0.0, "one"), (RETRY_S, "one")]


def test_the_panels_own_schedule_is_celerys_setting() -> None:
    settings = load_settings(_env_file=None, fast_interval_s=7, full_interval_s=70, full_jitter=0.25)
    entries = {entry.task: entry for entry in entries_of(beat_schedule(settings))}
    assert set(entries) == set(LANES)
    assert entries["reconcile.fast"] == Entry("reconcile.fast", 7.0)
    assert entries["reconcile.run"] == Entry("reconcile.run", 70.0, 0.25)


def test_a_time_of_day_is_refused() -> None:
    with pytest.raises(ValueError, match="nightly must have an interval"):
        entries_of({"nightly": {"task": "maintenance.prune", "schedule": crontab(hour="4")}})
