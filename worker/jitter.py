"""An interval that differs from time to time, so that many panels do not read one Proxmox or main site in lockstep."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any

from celery.schedules import schedstate, schedule
from celery.utils.time import remaining


class JitteredInterval(schedule):  # type: ignore[misc]  # Celery has no types
    """Due between ``(1 - jitter) * seconds`` and ``seconds`` after the last time, drawn anew each time.

    Beat asks again and again: the draw depends on the last time alone, so that it stands until the next.
    ``jitter`` is a share from 0 to below 1; ``seed`` is the process's own unless a test names one.
    """

    def __init__(
        self,
        seconds: float | timedelta,
        jitter: float,
        *,
        seed: str | None = None,
        nowfun: Callable[[], datetime] | None = None,
    ) -> None:
        super().__init__(run_every=seconds, nowfun=nowfun)
        self.jitter = jitter
        self._seed = seed if seed is not None else secrets.token_hex(8)

    def interval_after(self, last_run_at: datetime) -> timedelta:
        """How long it is from that run to the next."""
        share = Random(f"{self._seed}:{last_run_at.timestamp()}").uniform(1 - self.jitter, 1)
        return timedelta(seconds=self.seconds * share)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Time left until it is due; negative when it is over."""
        last = self.maybe_make_aware(last_run_at)
        left: timedelta = remaining(last, self.interval_after(last), self.maybe_make_aware(self.now()))
        return left

    def is_due(self, last_run_at: datetime) -> Any:  # noqa: ANN401 - Celery's own tuple
        """(is it due, seconds until beat should ask again)."""
        due = super().is_due(last_run_at)
        # Beat has not noted this run yet, so its draw is not known: ask again when the shortest could be over.
        return schedstate(is_due=True, next=self.seconds * (1 - self.jitter)) if due.is_due else due

    def __eq__(self, other: object) -> bool:
        if isinstance(other, JitteredInterval):
            return bool(self.run_every == other.run_every and self.jitter == other.jitter)
        return False

    def __hash__(self) -> int:
        return hash((self.run_every, self.jitter))

    def __reduce__(self) -> tuple[type[JitteredInterval], tuple[timedelta, float]]:
        return type(self), (self.run_every, self.jitter)
