"""The operators' paths: their own key, what is held, found and journaled, and what they decide."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import Engine, insert, text

from api.operators import held_models, operator_models
from domain.changes import Delete
from domain.failures import Failure, Stage
from panel.operators.holds import keep_holds
from panel.operators.quarantine import note_failures
from panel.records.public import BY_OPERATOR
from panel.schema import tables
from reconcile.decision.gate import Held
from tests.integration.api.conftest import Secrets, Worker, calling
from tests.integration.api.test_api_sync import create, delete
from tests.integration.panel.conftest import begin_run
from tests.unit.reconcile.worlds import record

READS = [
    "/audit",
    "/held",
    "/findings",
    "/runs",
    "/sources",
    "/pauses",
    "/quarantine",
    "/metrics",
    "/service-levels",
    "/vps/1/history",
    "/dead",
    "/overview",
    "/coverage",
    "/drift",
    "/money/running-unpaid",
    "/money/running-unpaid.csv",
    "/money/paid-missing",
    "/money/paid-missing.csv",
    "/deleted",
    "/vps/1",
    "/operations",
    "/inbox",
    "/inbox/orders",
    "/adoptions",
    "/webhooks",
    "/what-ifs",
    "/deletes",
]
WRITES = [
    "/held/00000000/approve", "/held/00000000/reject", "/findings/1/ack", "/findings/1/snooze", "/findings/1/ignore",
    "/findings/1/unignore", "/findings/1/heed", "/vps/1/restore",
    "/pause", "/resume", "/release", "/acknowledge", "/reconcile",
    "/dead/1/requeue", "/dead/1/discard", "/adopt", "/adoptions/1/withdraw", "/webhooks/enable", "/webhooks/replay",
    "/what-if",
]  # fmt: skip
EVERY = [("GET", path) for path in (*READS, "/what-ifs/1")] + [("POST", path) for path in WRITES]


async def answered(
    client: httpx.AsyncClient, path: str, model: type[BaseModel], body: dict[str, Any] | None = None
) -> Any:
    """The data of a successful answer that is as documented; a POST if there is a body."""
    url = f"/api/ops{path}"
    answer = await client.get(url) if body is None else await client.post(url, json=body)
    assert answer.is_success, answer.text
    model.model_validate_json(answer.content)
    return answer.json().get("data")


async def problem(client: httpx.AsyncClient, path: str, body: object) -> tuple[int, str]:
    answer = await client.post(f"/api/ops{path}", json=body)
    return answer.status_code, answer.json()["code"]


def task_requests(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT subject FROM task_requests WHERE task = 'reconcile.run'")))


def hold(engine: Engine, *ids: int) -> Held:
    """A held set of deletes of these records."""
    changes = tuple(Delete(source="orders", reason="its order ended", record=record(id=i)) for i in ids)
    held = Held("deletes", "too many at once", changes)
    run_id = begin_run(engine)
    with engine.begin() as connection:
        keep_holds(connection, run_id, [held])
    return held


def raise_findings(engine: Engine) -> None:
    with engine.begin() as connection:
        for class_, severity in (("unmanaged-guest", "info"), ("paid-but-missing", "alarm")):
            row = {"class": class_, "subject": "vps:1", "severity": severity, "reason": "a test says so"}
            connection.execute(insert(tables.findings).values(row))


UNSOLD = """
INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, template, signature, fingerprint,
  fingerprint_state, first_seen_at, changed_at, read_at)
SELECT 'main', 900, 'qemu', 'pve1', 'running', 'running', t, false, 'x', 'smbios:a', 'read', t, t, t
FROM clock_timestamp() t
"""


@pytest.fixture
async def deleted(site: httpx.AsyncClient, worker: Worker) -> int:
    """A VPS that the main site made and deleted."""
    vps_id: int = (await site.post("/api/vps/sync", json=create(order_id=12))).json()["vps"]["id"]
    last = (await site.post("/api/vps/sync", json=delete(vps_id))).json()["operation"]["id"]
    worker.apply(last)
    return vps_id


class TestKey:
    """Nobody but an operator, and every path asks."""

    @pytest.mark.parametrize(("method", "path"), EVERY)
    async def test_the_main_site_s_key_and_a_client_s_token_open_nothing(
        self, site: httpx.AsyncClient, anna: httpx.AsyncClient, method: str, path: str
    ) -> None:
        for stranger in (site, anna):
            answer = await stranger.request(method, f"/api/ops{path}", json={})
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")

    def test_every_path_is_listed_above(self, app: FastAPI) -> None:
        paths = app.openapi()["paths"]
        documented = {(m.upper(), p) for p, methods in paths.items() if p.startswith("/api/ops") for m in methods}
        named = {"/held/0": "/held/{held_hash}", "/vps/1": "/vps/{vps_id}", "/findings/1": "/findings/{finding_id}"}
        named |= {"/dead/1": "/dead/{operation_id}", "/adoptions/1": "/adoptions/{adoption_id}"}
        named |= {"/what-ifs/1": "/what-ifs/{what_if_id}"}
        tested = set()
        for method, path in EVERY:
            template = path.replace("00000000", "0")
            for given, generic in named.items():
                template = template.replace(given, generic)
            tested.add((method, f"/api/ops{template}"))
        assert tested == documented

    async def test_the_operators_key_makes_no_sync_calls(self, operator: httpx.AsyncClient) -> None:
        assert (await operator.post("/api/vps/sync", json=create())).status_code == 401

    async def test_no_key_set_opens_nothing(self, app: FastAPI, secrets: Secrets) -> None:
        assert secrets.operator
        async with calling(app, {"X-API-Key": ""}) as nobody:
            assert (await nobody.get("/api/ops/held")).status_code == 401


class TestHeld:
    """Approve and reject by hash."""

    async def test_a_set_is_shown_and_approved(self, operator: httpx.AsyncClient, engine: Engine) -> None:
        held = hold(engine, 1, 2)
        (shown,) = await answered(operator, "/held", held_models.HeldAnswer)
        assert (shown["hash"], [item["subject"] for item in shown["items"]]) == (held.hash, ["vps:1", "vps:2"])
        assert (shown["items_total"], shown["items"][0]["action"]) == (2, "delete")
        for asked, sets in (("class=missed-delete", 1), ("class=orphan", 0), ("cluster=nowhere", 0), ("user=77", 0),
                            ("offset=1", 0)):  # fmt: skip
            assert len(await answered(operator, f"/held?{asked}", held_models.HeldAnswer)) == sets, asked
        done = await answered(operator, f"/held/{held.hash[:8]}/approve", held_models.DecisionAnswer, {})
        assert (done["decision"], done["decided_by"]) == ("approved", "api:operator")
        assert await answered(operator, "/held", held_models.HeldAnswer) == []
        assert len(await answered(operator, "/held?all=true", held_models.HeldAnswer)) == 1
        assert task_requests(engine) == ["operator"], "the workers are asked for a run"

    async def test_refusals(self, operator: httpx.AsyncClient, engine: Engine) -> None:
        held = hold(engine, 1)
        await answered(operator, f"/held/{held.hash}/reject", held_models.DecisionAnswer, {})
        assert await problem(operator, f"/held/{held.hash}/reject", {}) == (409, "operator_conflict")
        assert await problem(operator, f"/held/{'0' * 64}/approve", {}) == (404, "operator_unknown")
        assert await problem(operator, f"/held/{held.hash[:7]}/approve", {}) == (422, "operator_invalid")


class TestFindings:
    """Seen, acknowledged, snoozed."""

    async def test_the_loudest_first_and_by_class(self, operator: httpx.AsyncClient, engine: Engine) -> None:
        raise_findings(engine)
        found = await answered(operator, "/findings", operator_models.FindingsAnswer)
        assert [f["class"] for f in found] == ["paid-but-missing", "unmanaged-guest"]
        (one,) = await answered(operator, "/findings?class=unmanaged-guest", operator_models.FindingsAnswer)
        assert one["severity"] == "info"
        for asked in ("offset=2", "cluster=nowhere", "user=77"):
            assert await answered(operator, f"/findings?{asked}", operator_models.FindingsAnswer) == [], asked

    async def test_acknowledged_and_snoozed(self, operator: httpx.AsyncClient, engine: Engine) -> None:
        raise_findings(engine)
        seen = await answered(operator, "/findings/1/ack", operator_models.FindingAnswer, {})
        assert (seen["acknowledged_by"], seen["snoozed"]) == ("api:operator", False)
        assert len(await answered(operator, "/findings", operator_models.FindingsAnswer)) == 2
        late = await answered(operator, "/findings/2/snooze", operator_models.FindingAnswer, {"for_s": 3600})
        assert late["snoozed"] is True
        assert [f["id"] for f in await answered(operator, "/findings", operator_models.FindingsAnswer)] == [1]
        assert len(await answered(operator, "/findings?all=true", operator_models.FindingsAnswer)) == 2
        with engine.begin() as connection:
            connection.execute(text("UPDATE findings SET snoozed_until = clock_timestamp()"))
        assert len(await answered(operator, "/findings", operator_models.FindingsAnswer)) == 2, "woken up"

    async def test_ignored_without_end_as_long_as_it_is_that_machine(
        self, operator: httpx.AsyncClient, engine: Engine
    ) -> None:
        raise_findings(engine)
        with engine.begin() as connection:
            connection.execute(text(UNSOLD))
            connection.execute(text("UPDATE findings SET cluster = 'main', vmid = 900 WHERE id = 1"))
        body = {"reason": "our monitoring"}
        assert await problem(operator, "/findings/2/ignore", body) == (409, "operator_conflict"), "no alarm is ignored"
        assert await problem(operator, "/findings/1/ignore", {"reason": ""}) == (422, "invalid_field")
        assert await problem(operator, "/findings/1/unignore", {}) == (409, "operator_conflict")
        kept = await answered(operator, "/findings/1/ignore", operator_models.FindingAnswer, body)
        assert (kept["ignored_by"], kept["ignored_reason"]) == ("api:operator", "our monitoring")
        assert [f["id"] for f in await answered(operator, "/findings", operator_models.FindingsAnswer)] == [2]
        assert len(await answered(operator, "/findings?all=true", operator_models.FindingsAnswer)) == 2
        with engine.begin() as connection:
            connection.execute(text("UPDATE guests SET fingerprint = 'smbios:b'"))
        assert len(await answered(operator, "/findings", operator_models.FindingsAnswer)) == 2, "another machine"
        with engine.begin() as connection:
            connection.execute(text("UPDATE guests SET fingerprint_state = 'stale'"))
        assert await problem(operator, "/findings/1/ignore", body) == (409, "operator_conflict"), "who is it?"
        heard = await answered(operator, "/findings/1/unignore", operator_models.FindingAnswer, {})
        assert heard["ignored_by"] is None
        assert await problem(operator, "/findings/9/ignore", body) == (404, "operator_unknown")

    async def test_refusals(self, operator: httpx.AsyncClient, engine: Engine) -> None:
        raise_findings(engine)
        with engine.begin() as connection:
            connection.execute(text("UPDATE findings SET resolved_at = clock_timestamp() WHERE id = 1"))
        assert await problem(operator, "/findings/9/ack", {}) == (404, "operator_unknown")
        assert await problem(operator, "/findings/1/ack", {}) == (409, "operator_conflict")
        assert await problem(operator, "/findings/2/snooze", {"for_s": 0}) == (422, "invalid_field")
        assert await problem(operator, "/findings/2/snooze", {"for_s": 31 * 86400}) == (422, "invalid_field")


class TestVps:
    """One record: its story, and its return."""

    async def test_its_story_and_its_return(
        self, operator: httpx.AsyncClient, site: httpx.AsyncClient, deleted: int, engine: Engine
    ) -> None:
        await answered(operator, f"/vps/{deleted}/restore", operator_models.DoneAnswer, {"reason": "paid after all"})
        story = await answered(operator, f"/vps/{deleted}/history", operator_models.HistoryAnswer)
        assert story["live"] is True
        assert [(e["action"], e["kind"], e["reason"]) for e in story["entries"]] == [
            ("create", "sync", None),
            ("delete", "sync", None),
            ("restore", "operator", "paid after all"),
        ]
        assert story["entries"][2]["evidence"]["by"] == "api:operator"
        told = await site.get(f"/api/vps/sync/operations/{story['entries'][2]['id']}")
        assert told.json()["operation"]["why"] == BY_OPERATOR, "what an operator wrote is not the main site's"
        assert task_requests(engine) == [f"operator vps:{deleted}"]
        again = await site.post("/api/vps/sync", json=create(order_id=12))
        assert (again.status_code, again.json()["vps"]["id"]) == (200, deleted), "its order is its own again"

    async def test_which_machine_it_is_when_that_was_read_and_whether_it_is_in_doubt(
        self, operator: httpx.AsyncClient, deleted: int, engine: Engine
    ) -> None:
        path = f"/vps/{deleted}/history"
        assert (await answered(operator, path, operator_models.HistoryAnswer))["identity"] is None
        with engine.begin() as connection:
            connection.execute(text(UNSOLD))
            connection.execute(text("UPDATE guests SET fingerprint_read_at = read_at - interval '5 minutes'"))
            connection.execute(text("UPDATE vps SET cluster = 'main', vmid = 900, link_state = 'verified'"))
        known = (await answered(operator, path, operator_models.HistoryAnswer))["identity"]
        assert (known["guest"], known["fingerprint"], known["in_doubt"], known["doubt"]) == (
            "main/900", "smbios:a", False, None,
        )  # fmt: skip
        assert known["age_s"] >= 300
        with engine.begin() as connection:
            statement = "UPDATE guests SET fingerprint_state = 'stale', doubt = 'started', doubted_at = read_at"
            connection.execute(text(statement))
        doubted = (await answered(operator, path, operator_models.HistoryAnswer))["identity"]
        assert (doubted["in_doubt"], doubted["doubt"], doubted["why"]) == (
            True, "started", "it was started after its configuration was read",
        )  # fmt: skip
        assert (doubted["read_at"], doubted["doubted_at"] > doubted["read_at"]) == (known["read_at"], True)

    async def test_refusals(self, operator: httpx.AsyncClient, site: httpx.AsyncClient, deleted: int) -> None:
        assert await problem(operator, "/vps/99/restore", {"reason": "why"}) == (404, "operator_unknown")
        assert await problem(operator, f"/vps/{deleted}/restore", {}) == (422, "invalid_field")
        assert await problem(operator, f"/vps/{deleted}/restore", {"reason": "  "}) == (422, "operator_invalid")
        newer = (await site.post("/api/vps/sync", json=create(order_id=12))).json()["vps"]["id"]
        answer = await operator.post(f"/api/ops/vps/{deleted}/restore", json={"reason": "why"})
        assert (answer.status_code, f"belongs to VPS {newer}" in answer.json()["message"]) == (409, True)
        answer = await operator.get("/api/ops/vps/99/history")
        assert (answer.status_code, answer.json()["code"]) == (404, "operator_unknown")


class TestRuns:
    """What ran, what shall run, and what shall not."""

    @pytest.mark.parametrize(
        ("body", "trigger"),
        [
            ({}, "operator"),
            ({"vps": 17}, "operator vps:17"),
            ({"user": 5}, "operator user:5"),
            ({"cluster": "main"}, "operator cluster:main"),
        ],
    )
    async def test_a_run_is_asked_for(
        self, operator: httpx.AsyncClient, engine: Engine, body: dict[str, Any], trigger: str
    ) -> None:
        answer = await operator.post("/api/ops/reconcile", json=body)
        assert answer.status_code == 202
        await answered(operator, "/reconcile", operator_models.DoneAnswer, body)
        assert task_requests(engine) == [trigger], "asking twice is once"

    @pytest.mark.parametrize("body", [{"vps": 1, "user": 5}, {"vps": "1"}, {"vps": 0}, {"node": "pve1"}, [], "vps:1"])
    async def test_a_run_of_nonsense(self, operator: httpx.AsyncClient, engine: Engine, body: object) -> None:
        assert await problem(operator, "/reconcile", body) == (422, "invalid_field")
        assert task_requests(engine) == []

    async def test_runs(self, operator: httpx.AsyncClient, engine: Engine) -> None:
        run_id = begin_run(engine)
        (shown,) = await answered(operator, "/runs", operator_models.RunsAnswer)
        assert (shown["id"], shown["kind"], shown["finished_at"]) == (run_id, "full", None)
        assert await answered(operator, "/runs?kind=fast", operator_models.RunsAnswer) == []

    async def test_numbers_for_monitoring(self, operator: httpx.AsyncClient, engine: Engine) -> None:
        empty = await answered(operator, "/metrics", operator_models.MetricsAnswer)
        assert (empty["journal"], empty["findings"]) == (
            {"queued": 0, "oldest_queued_s": None, "unpublished_s": None, "dead": 0},
            [],
        )
        hold(engine, 1, 2)
        await answered(operator, "/pause", operator_models.DoneAnswer, {"target": "all", "reason": "why", "for_s": 60})
        run_id = begin_run(engine)
        with engine.begin() as connection:
            note_failures(connection, run_id, [Failure("vps:1", Stage.WRITE, "why")])
            connection.execute(text("UPDATE findings SET first_seen_at = first_seen_at - interval '1 hour'"))
        numbers = await answered(operator, "/metrics", operator_models.MetricsAnswer)
        assert (numbers["held"]["sets"], numbers["held"]["items"]) == (1, 2)
        assert (numbers["pauses"], numbers["quarantined"]) == (1, 1)
        assert [(f["class"], f["open"], round(f["oldest_s"] / 3600)) for f in numbers["findings"]] == [
            ("paused", 1, 1),
            ("quarantined", 1, 1),
        ]
        assert [(r["kind"], r["done_day"]) for r in numbers["runs"]] == [("full", 0)]

    async def test_quarantine_and_release(self, operator: httpx.AsyncClient, engine: Engine) -> None:
        run_id = begin_run(engine)
        with engine.begin() as connection:
            note_failures(connection, run_id, [Failure("guest:main/101", Stage.LOAD, "ValueError in state.py:9")])
        (one,) = await answered(operator, "/quarantine", operator_models.QuarantineAnswer)
        assert (one["subject"], one["stage"], one["failures"]) == ("guest:main/101", "load", 1)
        assert await problem(operator, "/release", {"subject": "vps:1"}) == (404, "operator_unknown")
        assert await problem(operator, "/release", {"subject": "node:1"}) == (422, "invalid_field")
        await answered(operator, "/release", operator_models.DoneAnswer, {"subject": "guest:main/101"})
        assert await answered(operator, "/quarantine", operator_models.QuarantineAnswer) == []

    async def test_a_pause_from_beginning_to_end(self, operator: httpx.AsyncClient) -> None:
        body = {"target": "feed", "reason": "moving house", "for_s": 3600}
        await answered(operator, "/pause", operator_models.DoneAnswer, body)
        (source,) = await answered(operator, "/sources", operator_models.SourcesAnswer)
        assert (source["source"], source["pause_reason"], source["paused_by"]) == (
            "feed",
            "moving house",
            "api:operator",
        )
        (paused,) = await answered(operator, "/pauses", operator_models.PausesAnswer)
        assert (paused["target"], paused["by"]) == ("feed", source["paused_by"])
        (found,) = await answered(operator, "/findings", operator_models.FindingsAnswer)
        assert (found["class"], found["subject"]) == ("paused", "source:feed")
        await answered(operator, "/resume", operator_models.DoneAnswer, {"target": "feed"})
        assert await answered(operator, "/sources", operator_models.SourcesAnswer) == []
        assert await answered(operator, "/findings", operator_models.FindingsAnswer) == []
        assert await problem(operator, "/resume", {"target": "feed"}) == (409, "operator_conflict")
        assert await problem(operator, "/pause", body | {"target": "fra1"}) == (404, "operator_unknown")

    async def test_acknowledging_a_plan_and_a_source(self, operator: httpx.AsyncClient, engine: Engine) -> None:
        assert await problem(operator, "/acknowledge", {"source": "orders"}) == (409, "operator_conflict")
        with engine.begin() as connection:
            connection.execute(
                text("INSERT INTO source_states (source, degraded_since) VALUES ('orders', clock_timestamp())")
            )
        assert await problem(operator, "/acknowledge", {"source": "plan"}) == (409, "operator_conflict"), (
            "nothing is known"
        )
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO runs (kind, trigger, epoch, state) VALUES ('full', 't', 1, 'done')"))
        for source in ("orders", "plan"):
            await answered(operator, "/acknowledge", operator_models.DoneAnswer, {"source": source})
        with engine.connect() as connection:
            said = connection.scalars(text("SELECT source FROM source_states WHERE acknowledged_at IS NOT NULL"))
            assert sorted(said) == ["orders", "panel"]
