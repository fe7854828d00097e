"""Spans while tracing is off and while it is on: what is sent, and that nothing waits for it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry import trace
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from sources.outgoing.client import Client
from sources.outgoing.tls import trusting_authorities
from sources.outgoing.trace_collector import LIMITS, export_traces
from tests.support.collected_spans import Collected
from tests.support.stand_ins.no_database import NO_DATABASE
from tracing import recorder
from tracing.spans import Kind, Laps, _Switch, inner_span, span, switch_off, switch_on
from tracing.traceparent import trace_id_of

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-b7ad6b7169203331-01"
SECRET = "person5@example.test"


@pytest.fixture
def collected() -> Iterator[Collected]:
    made = Collected()
    switch_on("test", made.send)
    yield made
    switch_off()


def test_off_nothing_is_noted_and_the_sdk_is_not_imported() -> None:
    """In a process of its own: this one has imported it."""
    code = (
        "import sys, api.main, worker.tasks, worker.beat, worker.monitoring.task_traces\n"
        "import cli.serving.relay, cli.operating.reconcile\n"
        "from tracing.spans import span, switch_off\n"
        "with span('x') as noted: assert noted.traceparent is None\n"
        "switch_off()\n"
        # redis-py imports the SDK's metrics by itself, and FastAPI the API.
        "heavy = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'opentelemetry.proto', 'google', 'requests')\n"
        "assert not [name for name in sys.modules if name.startswith(heavy)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)  # noqa: S603 - our own code


def test_a_span_continues_the_trace_that_it_is_told(collected: Collected) -> None:
    with span("outer", Kind.SERVER, continues=CALLER, links=[OTHER], attributes={"panel.calls": 2}) as outer:
        assert trace_id_of(outer.traceparent) == trace_id_of(CALLER)
        with inner_span("inner"):
            pass
    with inner_span("alone"):
        pass
    sent = collected.spans()
    assert sent.keys() == {"outer", "inner"}
    assert (sent["outer"].trace, sent["outer"].parent) == tuple(CALLER.split("-")[1:3])
    assert sent["outer"].links == [trace_id_of(OTHER)]
    assert sent["outer"].attributes == {"panel.calls": 2}
    assert (sent["inner"].trace, sent["inner"].parent) == (sent["outer"].trace, sent["outer"].id)
    assert {one.service for one in sent.values()} == {"panel-sync-test"}


def test_a_trace_that_its_caller_does_not_record_is_not_sent(collected: Collected) -> None:
    with span("unrecorded", continues=f"{CALLER[:-1]}0") as noted:
        assert noted.traceparent is not None
        assert noted.traceparent.endswith("-00"), "nor is what follows from it"
        with inner_span("inner"):
            pass
    assert collected.spans() == {}


def test_an_exception_is_noted_by_its_class_alone(collected: Collected) -> None:
    def fail() -> None:
        with span(f"told {SECRET}"), span("failing") as noted:
            noted.note({"panel.result": SECRET, "user.email": SECRET})
            raise ValueError(SECRET)

    with pytest.raises(ValueError, match=SECRET):
        fail()
    sent = collected.spans()
    assert sent.keys() == {"span", "failing"}
    assert all(one.failed and one.attributes == {"error.type": "ValueError"} for one in sent.values())
    assert SECRET.encode() not in b"".join(collected.bodies)


def test_what_a_library_notes_behind_our_back_is_dropped(collected: Collected) -> None:
    with span("task"):
        noted = trace.get_current_span()
        noted.record_exception(ValueError(SECRET), {"row": SECRET})
        noted.add_event(SECRET)
        noted.set_attribute("db.query.text", SECRET)
        noted.set_status(trace.StatusCode.ERROR, SECRET)
    (task,) = collected.every()
    assert (task.failed, task.attributes, task.words) == (True, {}, [])
    assert SECRET.encode() not in b"".join(collected.bodies)


def test_statements_are_noted_inside_of_a_span_without_their_values(collected: Collected) -> None:
    with NO_DATABASE.connect() as connection:
        connection.execute(text("CREATE TABLE vps (name text)"))
        with span("task"):
            connection.execute(text("INSERT INTO vps VALUES (:name)"), {"name": SECRET})
            with pytest.raises(OperationalError):
                connection.execute(text("SELECT nothing FROM vps WHERE name = :name"), {"name": SECRET})
    sent = collected.spans()
    assert sent.keys() == {"task", "INSERT vps", "SELECT vps"}
    assert sent["SELECT vps"].attributes["error.type"] == "OperationalError"
    assert sent["INSERT vps"].parent == sent["SELECT vps"].parent == sent["task"].id
    assert SECRET.encode() not in b"".join(collected.bodies)


def test_a_source_is_asked_in_a_span_and_not_told_of_it(collected: Collected) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b"[]")

    asking = Client(
        f"https://site.test/{SECRET}",
        tls=trusting_authorities(None),
        limits=LIMITS,
        transport=httpx.MockTransport(answer),
        source="orders",
    )
    with span("orders"):
        asking.exchange("GET", "/users", params={"email": SECRET})
    sent = collected.spans()
    assert sent["GET"].attributes == {
        "http.request.method": "GET",
        "panel.source": "orders",
        "http.response.status_code": 200,
    }
    assert "traceparent" not in asked[0].headers
    assert SECRET.encode() not in b"".join(collected.bodies)


def test_laps_are_named_when_they_end(collected: Collected) -> None:
    with span("run"):
        laps = Laps()
        laps.end("clusters")
        with inner_span("GET"):
            pass
        laps.end("orders")
        laps.close()
    sent = collected.spans()
    assert sent.keys() == {"run", "clusters", "GET", "orders", "rest"}
    assert sent["GET"].parent == sent["orders"].id
    assert {sent[name].parent for name in ("clusters", "orders", "rest")} == {sent["run"].id}


def test_variables_of_the_environment_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_RESOURCE_ATTRIBUTES": f"person={SECRET}",
        "OTEL_SERVICE_NAME": SECRET,
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0",
        "OTEL_BSP_MAX_QUEUE_SIZE": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_HEADERS": f"person={SECRET}",
    }.items():
        monkeypatch.setenv(name, value)
    collected = Collected()
    switch_on("test", collected.send)
    with span("noted", attributes={"panel.calls": 1}), inner_span("another"):
        pass
    assert collected.spans().keys() == {"noted", "another"}
    assert collected.spans()["noted"].attributes == {"panel.calls": 1}
    assert SECRET.encode() not in b"".join(collected.bodies)


def one_more() -> None:
    """A span that is sent now instead of in two seconds."""
    with span("noted"):
        pass
    assert _Switch.recorder is not None
    _Switch.recorder._processor.force_flush()


def test_a_collector_that_takes_nothing_is_logged_once(collected: Collected) -> None:
    with capture_logs() as lines:
        for collected.problem in ("answered 503", "answered 503", None, None):
            one_more()
    assert [(line["event"], line.get("problem"), line.get("spans_lost")) for line in lines] == [
        ("traces_not_taken", "answered 503", None),
        ("traces_taken_again", None, 2),
    ]


def test_spans_and_the_end_wait_for_no_collector() -> None:
    """The collector takes connections and never answers. Spans beyond the queue are dropped."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        export_traces(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces", "test")
        for _ in range(5000):
            with span("noted"):
                pass
        ending = threading.Thread(target=switch_off)
        ending.start()
        ending.join(20)  # the SDK by itself would wait for 30 s
        assert not ending.is_alive()


@pytest.mark.parametrize(("failing", "within_s"), [(True, 3600.0), (False, 0.0)])
def test_at_the_end_nothing_is_sent_for_long(monkeypatch: pytest.MonkeyPatch, failing: bool, within_s: float) -> None:
    """Neither to a collector that took nothing lately, nor when the time is over."""
    monkeypatch.setattr(recorder, "EVERY_MS", 3_600_000)
    monkeypatch.setattr(recorder, "END_WITHIN_S", within_s)
    collected, tries = Collected(), []
    collected.problem = "answered 503"

    def send(body: bytes) -> str | None:
        tries.append(body)
        return collected.send(body)

    switch_on("test", send)
    for _ in range(failing):
        one_more()
    with span("the last"):
        pass
    switch_off()
    assert len(tries) == failing


def test_no_url_switches_nothing_on() -> None:
    export_traces("", "test")
    with span("noted") as noted:
        assert noted.traceparent is None
