"""What is counted of tasks: how they ended, by the process that knows it."""

from __future__ import annotations

import os
from types import SimpleNamespace

from structlog.contextvars import get_contextvars

from panel.monitoring.instruments import REGISTRY
from worker.monitoring.task_numbers import TaskNumbers

TASK = SimpleNamespace(name="test.counted")


def counted(outcome: str) -> float:
    labels = {"task": TASK.name, "outcome": outcome}
    return REGISTRY.get_sample_value("panel_sync_tasks_total", labels) or 0.0


def test_each_end_of_a_task_is_counted_once_and_its_log_lines_name_it() -> None:
    numbers = TaskNumbers({TASK.name})
    for number, (state, outcome) in enumerate(
        {"SUCCESS": "success", "FAILURE": "failure", "RETRY": "retry", "REJECTED": "failure"}.items()
    ):
        before = counted(outcome)
        numbers.began(str(number), TASK)
        assert get_contextvars()["task"] == TASK.name
        numbers.ended(str(number), TASK, state)
        assert counted(outcome) == before + 1
        assert "task" not in get_contextvars()
    assert REGISTRY.get_sample_value("panel_sync_task_duration_seconds_count", {"task": TASK.name}) == 4


def test_only_the_main_process_tells_of_a_lost_one() -> None:
    numbers = TaskNumbers({TASK.name})
    numbers.lost(TASK)
    assert counted("killed") == 1
    numbers._main = os.getpid() + 1  # as in a process of the pool, which tells of its own failures as they end
    numbers.lost(TASK)
    assert counted("killed") == 1


def test_celerys_own_tasks_are_not_counted() -> None:
    numbers = TaskNumbers({"sync.apply"})
    other = SimpleNamespace(name="celery.backend_cleanup")
    numbers.began("1", other)
    numbers.ended("1", other, "SUCCESS")
    assert REGISTRY.get_sample_value("panel_sync_tasks_total", {"task": other.name, "outcome": "success"}) is None
