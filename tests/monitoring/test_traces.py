"""Traces of a whole panel: one from the main site's call to the written record, one of each run. Nothing personal and
no secret is in the bytes that leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from panel.redaction import secrets_of
from tests.support.databases import Databases
from tests.support.keys import random_key
from tests.support.live_panel import QUICK, LivePanel, Outside, live_panel, outside
from tests.support.stand_ins.trace_collector import SentSpan, TraceCollector, trace_collector
from tests.support.trouble.drift import CLIENT, drop_next, sold
from tests.support.waiting import PATIENCE_S, wait_until
from tracing.allowed import ATTRIBUTES, NAMELESS

pytestmark = [pytest.mark.acceptance]

TRACE, CALLER_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FAILING_TRACE, READING_TRACE = "1bf7651916cd43dd8448eb211c80319d", "2cf7651916cd43dd8448eb211c80319e"
NAME, SOLD_NAME, REFUSED_NAME = "Анна <anna@private.test>", "machine-of-anna", "name-that-is-refused"
MISSED_NAME = "missed-machine-of-anna"
ADDRESS = "203.0.113.77"
IDEMPOTENCY_KEY, REQUEST_ID = "retry-of-anna-0001", "request-of-anna-0001"
PERSONAL = {
    NAME, "Анна", "anna", SOLD_NAME, REFUSED_NAME, ADDRESS, IDEMPOTENCY_KEY, REQUEST_ID, "login-of-5", "login-of-6",
    "person5@", "person6@",
}  # fmt: skip

CALLED = (
    "POST /api/vps/sync", "journal calls", "INSERT operations", "publish sync.apply", "sync.apply", "INSERT vps",
)  # fmt: skip

ELSEWHERE = {
    "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": ".*",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST": ".*",
    "OTEL_RESOURCE_ATTRIBUTES": "host.owner=anna",
}
"""What a host or an orchestrator may have set for other programs, besides an address of theirs."""

PATIENT = Path(__file__).resolve().parents[1] / "support" / "patient_exporters"
"""On the PYTHONPATH of the panel's processes: they lose no span because this machine is busy."""


@dataclass(slots=True)
class Flow:
    """What happened, and what the collector got of it."""

    panel: LivePanel
    world: Outside
    collector: TraceCollector
    elsewhere: TraceCollector
    environment: dict[str, str]
    operation_id: int = 0
    failing_operation_id: int = 0
    secrets: set[str] = field(default_factory=set)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The log lines of a process that are complete."""
        log = self.panel.process(name).log_path.read_text(encoding="utf-8")
        return [json.loads(line) for line in log.rpartition("\n")[0].splitlines() if line.startswith("{")]

    def trace(self, trace_id: str, *names: str) -> list[SentSpan]:
        """The spans of a trace, once all the named ones have arrived, and of each span the one around it: each process
        sends its own, when it comes to it."""

        def arrived() -> list[SentSpan] | None:
            spans = self.collector.received.trace(trace_id)
            around = {span.parent for span in spans} - {"", CALLER_SPAN}
            whole = {span.name for span in spans} >= set(names) and {span.id for span in spans} >= around
            return spans if whole else None

        found = wait_until(arrived, f"{', '.join(names)} of the trace {trace_id}")
        assert found is not None
        return found

    def first(self, name: str, **attributes: str) -> SentSpan:
        """The first span of that name that has the attributes ``panel.<name>``, once it has arrived."""
        wanted = {f"panel.{key}": value for key, value in attributes.items()}.items()

        def arrived() -> SentSpan | None:
            spans = self.collector.received.spans
            return next((one for one in spans if one.name == name and wanted <= one.attributes.items()), None)

        found = wait_until(arrived, f"{name} in a trace")
        assert found is not None
        return found

    def refused(self) -> SentSpan:
        """The statement that failed, once it has arrived. The call is tried again, and then it does not fail."""

        def arrived() -> SentSpan | None:
            spans = self.collector.received.trace(FAILING_TRACE)
            return next((one for one in spans if one.name == "INSERT vps" and one.failed), None)

        found = wait_until(arrived, "the statement that failed in a trace")
        assert found is not None
        return found

    def wait_for_all(self) -> None:
        """Until all that was played has arrived, or of what is done again and again the first."""
        self.trace(TRACE, *CALLED)
        self.trace(FAILING_TRACE, "POST /api/vps/sync")
        self.refused()
        self.first("POST /api/vps/{vps_id}/stop")
        self.first("power.act")
        self.first("repair missed-create", result="written")

        def read() -> bool:
            spans = self.collector.received.trace(READING_TRACE)
            return {one.attributes.get("http.response.status_code") for one in spans} >= {200, 401, 404, 415}

        wait_until(read, "what was read and refused, in a trace")


def named(spans: list[SentSpan], name: str) -> list[SentSpan]:
    return [span for span in spans if span.name == name]


@pytest.fixture(scope="module")
def flow(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """Calls, reads, a power action, runs with a repair, and a statement that fails."""
    database = databases.clone()
    with outside() as world, trace_collector() as collector, trace_collector() as elsewhere:
        environment = {
            "POWER_ACTIONS": "true",
            "TRACES_URL": collector.url,
            "OPS_API_KEY": random_key(),
            "OTEL_EXPORTER_OTLP_ENDPOINT": elsewhere.url.removesuffix("/v1/traces"),
            "PYTHONPATH": os.pathsep.join([str(PATIENT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            **ELSEWHERE,
        }
        directory = tmp_path_factory.mktemp("traces")
        with live_panel(database, directory, environment=QUICK | world.environment() | environment) as panel:
            admin_url = databases.server.admin_url(panel.settings.database_url.rpartition("/")[2])
            made = Flow(panel, world, collector, elsewhere, environment)
            made.secrets = set(secrets_of(panel.settings)) | {panel.token(CLIENT)}
            _play(made, admin_url)
            yield made
    databases.drop(database)


def _play(flow: Flow, admin_url: str) -> None:
    panel, world = flow.panel, flow.world
    panel.wait_users()
    flow.operation_id = _call(panel, TRACE, NAME, {"Idempotency-Key": IDEMPOTENCY_KEY, "X-Request-Id": REQUEST_ID})
    panel.wait_status(CLIENT, NAME, "creating")
    _reads(panel)
    _power_action(panel, sold(panel, world, SOLD_NAME)[1])
    drop_next(world, "create")  # so a run makes the record, after it has asked for the order again
    world.site.set_status(world.site.place_order(user_id=1, name=MISSED_NAME).id, "running")
    panel.wait_status(CLIENT, MISSED_NAME, "running")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"ALTER TABLE vps ADD CONSTRAINT no_such_name CHECK (name <> '{REFUSED_NAME}') NOT VALID")
        flow.failing_operation_id = _call(panel, FAILING_TRACE, REFUSED_NAME, {})
        failed = "SELECT 1 FROM operations WHERE id = :id AND error IS NOT NULL"
        wait_until(lambda: panel.rows(failed, id=flow.failing_operation_id), "the call to fail")
        admin.execute("ALTER TABLE vps DROP CONSTRAINT no_such_name")


def _call(panel: LivePanel, trace: str, name: str, headers: dict[str, str]) -> int:
    vps = {"user_id": CLIENT, "name": name, "cpu": 1, "ram": 1024, "disk": 1, "os": "x", "ip_address": ADDRESS}
    answer = httpx.post(
        f"{panel.url}/api/vps/sync",
        json={"action": "create", "vps": vps},
        headers={"X-API-Key": panel.sync_key, "traceparent": f"00-{trace}-{CALLER_SPAN}-01", **headers},
        trust_env=False,
    )
    assert answer.status_code == 202, answer.text
    return int(answer.json()["operation"]["id"])


def _reads(panel: LivePanel) -> None:
    """A customer's read, a search whose query has a name, and refusals that quote secrets."""
    assert panel.listed(CLIENT)
    headers = {"X-API-Key": panel.sync_key, "traceparent": f"00-{READING_TRACE}-{CALLER_SPAN}-01"}
    with httpx.Client(base_url=panel.url, trust_env=False, headers=headers) as client:
        found = client.get("/api/vps/sync/records", params={"user_id": CLIENT, "name": NAME})
        assert found.status_code == 200
        assert client.get(f"/api/vps/sync/{panel.sync_key}").status_code == 404
        assert client.post("/api/vps/sync", content=f'{{"{panel.sync_key}').status_code == 415
        assert client.get("/api/vps", headers={"Authorization": f"Bearer {panel.token(CLIENT)}x"}).status_code == 401


def _power_action(panel: LivePanel, vps_id: int) -> None:
    headers = {"Authorization": f"Bearer {panel.token(CLIENT)}"}
    url = f"{panel.url}/api/vps/{vps_id}/stop"
    wait_until(
        lambda: httpx.post(url, headers=headers, trust_env=False).status_code == 202, "the action to be accepted"
    )
    panel.wait_status(CLIENT, SOLD_NAME, "stopped")


def test_one_trace_from_the_call_to_the_written_record(flow: Flow) -> None:
    spans = flow.trace(TRACE, *CALLED)
    ((call,), (journal,), (noted,), (written,)) = (
        named(spans, name) for name in ("POST /api/vps/sync", "journal calls", "INSERT operations", "INSERT vps")
    )
    assert (call.service, call.parent) == ("panel-sync-api", CALLER_SPAN)
    assert call.attributes["panel.operation_id"] == flow.operation_id
    published = named(spans, "publish sync.apply")  # again if its worker takes long
    assert {journal.parent, *(one.parent for one in published)} == {call.id}
    assert noted.parent == journal.id
    (task,) = [one for one in named(spans, "sync.apply") if one.id == written.parent]
    assert task.parent in {one.id for one in published}
    assert task.service == "panel-sync-worker"
    assert task.attributes | {"panel.operation_id": flow.operation_id, "panel.result": "success"} == task.attributes
    stored = flow.panel.rows("SELECT traceparent FROM operations WHERE id = :id", id=flow.operation_id)
    assert stored == [{"traceparent": f"00-{TRACE}-{call.id}-01"}]


def test_a_statement_that_failed_is_told_by_its_code(flow: Flow) -> None:
    assert flow.refused().attributes["error.type"] == "23514"


def test_a_run_is_a_trace_with_its_phases_reads_and_repairs(flow: Flow) -> None:
    repair = flow.first("repair missed-create", result="written")
    phases = ("read_ahead", "clusters", "power", "orders", "fingerprints", "select", "decide", "gate", "apply")
    every = flow.trace(repair.trace, "publish reconcile.run", "reconcile.run", "run full", *phases)
    spans = {span.name: span for span in every}
    run = spans["run full"]
    assert run.attributes["panel.result"] == "done"
    assert run.attributes["panel.run_id"]
    assert run.parent == spans["reconcile.run"].id
    assert spans["publish reconcile.run"].service == "panel-sync-beat"
    for phase in phases:
        assert spans[phase].parent == run.id
    assert repair.parent == spans["apply"].id
    asked = {span.attributes.get("panel.source") for span in every if span.name == "GET"}
    assert {flow.world.pve.name, "orders"} <= asked
    names = {span.id: span.name for span in every}
    parents = {names[span.parent] for span in every if span.name == "GET"}
    assert {"read_ahead", "clusters", repair.name} <= parents, "the order is asked again before the write"


def test_a_run_of_a_command_is_a_trace(flow: Flow) -> None:
    """It is sent by the time the command has ended."""
    settings = {"DEMO": "true", "DATABASE_URL": flow.panel.settings.database_url}
    subprocess.run(
        [sys.executable, "-P", "-m", "cli.main", "plan"],
        env={**os.environ, **flow.world.environment(), **flow.environment, **settings},
        cwd=flow.panel.directory,
        stdout=subprocess.DEVNULL,
        timeout=300,
        check=True,
    )
    runs = [span for span in flow.collector.received.spans if span.name == "run plan"]
    (run,) = [span for span in runs if span.attributes["panel.result"] == "done"]  # others found a run under way
    assert (run.service, run.parent) == ("panel-sync-command", "")
    assert {"GET", "decide"} <= {span.name for span in flow.collector.received.trace(run.trace)}


def test_a_power_action_continues_the_trace_of_the_request(flow: Flow) -> None:
    def acted() -> list[SentSpan]:
        sent = [span for span in flow.collector.received.spans if span.name == "POST"]
        return [span for span in sent if span.attributes.get("panel.source") == flow.world.pve.name]

    (command,) = wait_until(acted, "the command in a trace")
    flow.trace(command.trace, "POST /api/vps/{vps_id}/stop", "publish power.act", "power.act", "GET")


def test_nothing_personal_and_no_secret_leaves(flow: Flow) -> None:
    flow.wait_for_all()
    sent = b"".join(flow.collector.received.bodies)
    assert b"POST /api/vps/sync" in sent  # the right thing is searched
    assert [word for word in sorted(PERSONAL | flow.secrets) if word.encode() in sent] == []
    heads = "".join(flow.collector.received.heads)
    assert [word for word in sorted(PERSONAL | flow.secrets) if word in heads] == []


def test_spans_say_only_what_is_listed(flow: Flow) -> None:
    flow.wait_for_all()
    spans = flow.collector.received.spans
    assert {key for span in spans for key in span.attributes} <= ATTRIBUTES.keys()
    assert [span for span in spans if span.words] == []
    assert NAMELESS not in {span.name for span in spans}, "a span of our own has a name that is not allowed"
    assert not {"GET /healthz", "GET /readyz"} & {span.name for span in spans}
    # What only looks into the database again and again is no trace.
    assert [span for span in spans if not span.parent and span.name.startswith(("SELECT", "UPDATE"))] == []


def test_log_lines_have_the_ids(flow: Flow) -> None:
    (called,) = [line for line in flow.lines("api") if line.get("request_id") == REQUEST_ID]
    assert (called["event"], called["operation_id"], called["trace_id"]) == ("http_request", flow.operation_id, TRACE)

    def failing() -> list[dict[str, Any]]:
        return [line for line in flow.lines("worker-sync") if line.get("operation_id") == flow.failing_operation_id]

    told = wait_until(failing, "the worker to log the call that failed")
    assert {(line["trace_id"], line["task"]) for line in told} == {(FAILING_TRACE, "sync.apply")}

    def logged(event: str) -> list[dict[str, Any]]:
        return [line for line in flow.lines("worker-reconcile") if line["event"] == event]

    for event in ("run_done", "repaired"):
        lines = wait_until(partial(logged, event), f"{event} in the log")
        assert all(line["run_id"] and line["trace_id"] and line["task"] for line in lines)


def test_without_the_collector_calls_are_taken_and_it_is_logged_once(flow: Flow) -> None:
    """After all tests that look for spans: it closes the collector."""
    flow.collector.shutdown()
    flow.collector.socket.close()

    def noticed() -> list[dict[str, Any]]:
        assert flow.panel.sync("delete", {"id": 999}).status_code == 404
        return [line for line in flow.lines("api") if line["event"] == "traces_not_taken"]

    wait_until(noticed, "the API to notice that the collector is away")
    assert _call(flow.panel, TRACE, "while the collector is away", {})
    assert len(noticed()) == 1


def test_the_environment_sends_nothing_elsewhere(flow: Flow) -> None:
    """The last test: it ends the processes. What else they would have sent they would send by then."""
    for name in ("api", "worker-sync", "beat"):
        process = flow.panel.process(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait_exit(PATIENCE_S)
    assert flow.elsewhere.received.bodies == []
