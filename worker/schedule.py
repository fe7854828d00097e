"""When each task is due. Pure except for the random jitter. Times are seconds of a clock that only goes forward.

A time-of-day clock may go back, and then no task would be due until it has caught up. Nothing is stored over a restart:
after one, every task is asked for at once, which does no harm.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from celery.schedules import maybe_schedule
from celery.schedules import schedule as CelerySchedule  # noqa: N812 - a class

from panel.settings import Settings

ALARMS_EVERY_S = 30.0
"""How often alarms that the webhook did not take are sent again. A finding that opens as an alarm is sent at once."""

PRUNE_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A task and its interval in seconds. ``jitter``: the share of the interval, from 0 to below 1, by which the task
    may come earlier. It is drawn at random each time, so that several panels do not read one source at the same
    moment."""

    task: str
    every_s: float
    jitter: float = 0.0

    def next_after(self, moment: float, rng: random.Random) -> float:
        """When the task is due again after ``moment``."""
        return moment + self.every_s * (1 - self.jitter * rng.random())


class Schedule:
    """Which entries are due. At first all of them are."""

    def __init__(self, entries: Sequence[Entry], now: float, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._due = {entry.task: (now, entry) for entry in entries}

    def due(self, now: float) -> list[Entry]:
        """The entries that are due, the longest overdue first. Each is next due one interval from now, however late it
        is."""
        overdue = sorted((pair for pair in self._due.values() if pair[0] <= now), key=lambda pair: pair[0])
        entries = [entry for _, entry in overdue]
        for entry in entries:
            self._due[entry.task] = (entry.next_after(now, self._rng), entry)
        return entries

    def retry_at(self, entry: Entry, at: float) -> None:
        """Make an entry that could not be sent due at ``at``."""
        self._due[entry.task] = (at, entry)

    def wait_s(self, now: float) -> float:
        """Seconds until the next entry is due."""
        return max(0.0, min(at for at, _ in self._due.values()) - now)


class Every(CelerySchedule):  # type: ignore[misc]  # Celery is untyped
    """Celery's interval, with the share of it by which the task may come earlier."""

    def __init__(self, seconds: float, jitter: float = 0.0) -> None:
        super().__init__(timedelta(seconds=seconds))
        self.jitter = jitter


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """All periodic tasks, as Celery's setting ``beat_schedule``."""
    every = {
        "users.import": Every(settings.users_interval_s),
        "reconcile.fast": Every(settings.fast_interval_s),
        "reconcile.run": Every(settings.full_interval_s, settings.full_jitter),
        "findings.tell": Every(ALARMS_EVERY_S),
        "maintenance.prune": Every(PRUNE_EVERY_S),
    }
    return {task: {"task": task, "schedule": schedule} for task, schedule in every.items()}


def entries_of(setting: Mapping[str, Mapping[str, Any]]) -> list[Entry]:
    """The entries of Celery's setting ``beat_schedule``. Raises ValueError for a schedule that is not an interval."""
    entries = []
    for name, options in setting.items():
        schedule = maybe_schedule(options["schedule"])
        if not isinstance(schedule, CelerySchedule):
            raise ValueError(f"beat_schedule: {name} must have an interval in seconds")
        entries.append(Entry(options["task"], schedule.run_every.total_seconds(), getattr(schedule, "jitter", 0.0)))
    return entries
