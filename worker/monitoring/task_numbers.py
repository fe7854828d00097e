"""Counts the tasks of a worker, and shows the numbers of a worker or of beat to Prometheus by a port of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from typing import Any

import structlog
from celery import signals
from prometheus_client import start_http_server
from structlog.contextvars import bind_contextvars, unbind_contextvars

from panel.monitoring.exposition import registry_of
from panel.monitoring.instruments import announce_tasks, task_ended

log = structlog.get_logger(__name__)

_OUTCOMES = {"SUCCESS": "success", "FAILURE": "failure", "RETRY": "retry"}


class TaskNumbers:
    """Counts what the pool's processes do, and in the worker's main process what became of those that were killed."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._main = os.getpid()
        self._began: dict[str, float] = {}

    def began(self, task_id: str, task: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's signal
        """A pool process begins a task. Until it ends, its log lines name it."""
        self._began[task_id] = time.perf_counter()
        bind_contextvars(task=task.name)

    def ended(self, task_id: str, task: Any, state: str | None = None, **_: Any) -> None:  # noqa: ANN401 - Celery's signal
        """A pool process ended a task in that state."""
        unbind_contextvars("task")
        began = self._began.pop(task_id, None)
        took = None if began is None else time.perf_counter() - began
        self._count(task, _OUTCOMES.get(state or "", "failure"), took)

    def lost(self, sender: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's signal
        """The main process tells of a task whose process was killed, or was lost. A pool process tells of its own
        failures and retries by the same signals, but counts them as it ends the task."""
        if os.getpid() == self._main:
            self._count(sender, "killed", None)

    def _count(self, task: Any, outcome: str, seconds: float | None) -> None:  # noqa: ANN401 - Celery's
        name = str(getattr(task, "name", ""))
        if name in self._names:  # Celery's own tasks are not ours to count
            task_ended(name, outcome, seconds)


def count_tasks(names: Collection[str]) -> None:
    """Count the tasks of these names from now on. For the main process of a worker, before its pool starts."""
    announce_tasks(names)
    numbers = TaskNumbers(names)
    for signal, receiver in (
        (signals.task_prerun, numbers.began),
        (signals.task_postrun, numbers.ended),
        (signals.task_failure, numbers.lost),
        (signals.task_retry, numbers.lost),
    ):
        signal.connect(receiver, weak=False)


def listen(host: str, port: int) -> None:
    """Show this process's numbers, and those of its pool, on a port from a thread of its own. Port 0: do nothing.

    If the port is taken this is only logged: the work is worth more than its numbers.
    """
    if not port:
        return
    try:
        server, _ = start_http_server(port, host, registry=registry_of())
    except OSError as error:
        log.warning("metrics_port_not_opened", port=port, error=type(error).__name__, why=error.strerror)
        return
    # A pool process that is forked later would keep the port when the main process is killed.
    signals.worker_process_init.connect(lambda **_: server.socket.close(), weak=False)
