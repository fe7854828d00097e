"""A span for each task, which continues the trace that its message names, and the ids in its log lines."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from celery import signals
from structlog.contextvars import bound_contextvars

from panel.journal.publish import IDS
from sources.outgoing.trace_collector import export_traces
from tracing.spans import Kind, Span, span, switch_off
from tracing.traceparent import trace_id_of, valid_traceparent


class TaskTraces:
    """The span of the task under way. A pool process does one at a time."""

    def __init__(self) -> None:
        self._task = ExitStack()
        self._span: Span | None = None

    def began(self, task: Any, args: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's signal
        """A pool process begins a task. Until it ends, its log lines say what it is about, also Celery's own line of a
        failure."""
        self._task.close()
        ids: dict[str, Any] = {}
        if task.name in IDS and args and isinstance(args[0], int):
            ids[IDS[task.name]] = args[0]
        given = getattr(task.request, "traceparent", None)
        continues = valid_traceparent([given] if isinstance(given, str) else [])
        noted = {"panel.task": task.name, "panel.retries": task.request.retries or None}
        noted |= {f"panel.{name}": value for name, value in ids.items()}
        if args and isinstance(args[0], list):
            noted["panel.calls"] = len(args[0])
        self._span = self._task.enter_context(span(task.name, Kind.CONSUMER, continues=continues, attributes=noted))
        if trace_id := trace_id_of(self._span.traceparent or continues):
            ids["trace_id"] = trace_id
        self._task.enter_context(bound_contextvars(**ids))

    def ended(self, state: str | None = None, retval: object = None, **_: Any) -> None:  # noqa: ANN401 - Celery's signal
        """It ended the task in that state."""
        if self._span is not None:
            self._span.note({"panel.result": (state or "FAILURE").lower()})
            if state not in {"SUCCESS", "RETRY"}:
                self._span.failed(type(retval).__name__ if isinstance(retval, BaseException) else "failure")
        self._span = None
        self._task.close()


def trace_tasks(url: str) -> None:
    """Note a span for each task from now on, and send the spans to ``url`` (empty: to nobody). For the main process of
    a worker, before its pool starts."""
    traces = TaskTraces()
    signals.task_prerun.connect(traces.began, weak=False)
    signals.task_postrun.connect(traces.ended, weak=False)
    if url:
        import tracing.recorder  # noqa: F401, PLC0415 - once for all pool processes, which share its memory

        signals.worker_process_init.connect(lambda **_: export_traces(url, "worker"), weak=False)
        signals.worker_process_shutdown.connect(lambda **_: switch_off(), weak=False)
