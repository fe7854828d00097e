"""A task continues the trace of its message, and its log lines say what it is about."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from structlog.contextvars import clear_contextvars, get_contextvars

from tests.support.collected_spans import Collected
from tracing.spans import switch_off, switch_on
from tracing.traceparent import trace_id_of
from worker.monitoring.task_traces import TaskTraces

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "person5@example.test"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    clear_contextvars()
    yield
    switch_off()


@pytest.mark.parametrize("on", [True, False])
def test_a_task_continues_its_message_s_trace_and_its_log_lines_have_the_ids(on: bool) -> None:
    collected, traces = Collected(), TaskTraces()
    if on:
        switch_on("test", collected.send)
    task = SimpleNamespace(name="sync.apply", request=SimpleNamespace(traceparent=CALLER, retries=1))
    traces.began(task, [7])
    assert get_contextvars() == {"operation_id": 7, "trace_id": trace_id_of(CALLER)}
    traces.ended("FAILURE", ValueError(SECRET))
    assert get_contextvars() == {}
    sent = collected.spans()
    assert bool(sent) == on
    if on:
        assert sent["sync.apply"].attributes == {
            "panel.task": "sync.apply",
            "panel.operation_id": 7,
            "panel.retries": 1,
            "panel.result": "failure",
            "error.type": "ValueError",
        }


def test_a_task_of_several_calls_says_how_many() -> None:
    collected, traces = Collected(), TaskTraces()
    switch_on("test", collected.send)
    traces.began(SimpleNamespace(name="sync.apply", request=SimpleNamespace(traceparent=CALLER, retries=0)), [[7, 8]])
    assert "operation_id" not in get_contextvars()
    traces.ended("SUCCESS", "2 applied")
    noted = {"panel.task": "sync.apply", "panel.calls": 2, "panel.result": "success"}
    assert collected.spans()["sync.apply"].attributes == noted


@pytest.mark.parametrize("given", [None, 5, "not a header", ["list"]])
def test_a_message_without_a_trace_begins_one(given: object) -> None:
    collected, traces = Collected(), TaskTraces()
    switch_on("test", collected.send)
    task = SimpleNamespace(name="reconcile.fast", request=SimpleNamespace(traceparent=given, retries=0))
    traces.began(task, [])
    assert len(get_contextvars()["trace_id"]) == 32
    traces.ended("SUCCESS", "done")
    assert collected.spans()["reconcile.fast"].parent == ""
