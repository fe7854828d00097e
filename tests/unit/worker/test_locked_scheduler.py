"""A scheduler that lost its lock sends nothing, whatever is overdue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from worker.beat import BeatLock, locked_scheduler


class Lock(BeatLock):
    """A lock that is held or not, as the test says."""

    def __init__(self, *, held: bool) -> None:
        super().__init__("")
        self.answer = held

    def held(self) -> bool:
        return self.answer


@pytest.mark.parametrize(("held", "sent"), [(True, ["one"]), (False, [])], ids=["held", "lost"])
def test_it_sends_only_while_the_lock_is_held(
    held: bool, sent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Celery("test", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {"one": {"task": "one", "schedule": 0.001}}
    scheduler = locked_scheduler(Lock(held=held))(app=app, schedule_filename=str(tmp_path / "schedule"))
    seen: list[str] = []

    def keep(entry: Any, **_: Any) -> None:
        seen.append(entry.name)

    monkeypatch.setattr(scheduler, "apply_async", keep)
    scheduler.apply_entry(scheduler.schedule["one"])
    scheduler.close()
    assert seen == sent
