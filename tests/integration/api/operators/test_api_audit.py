"""Who did what: uses of credentials, operators' decisions and roles, and what a flood of refusals leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine, text

from api import access_audit
from api.access_audit import AccessAudit
from api.dependencies import Edge
from api.operators.audit_models import AuditAnswer
from panel.journal import refusals
from panel.sessions import async_engine
from panel.settings import OperatorKey, Settings
from tests.integration.api.conftest import Secrets, Worker, calling
from tests.integration.api.test_api_operators import EVERY, UNSOLD, hold, raise_findings
from tests.integration.api.test_api_sync import create, delete
from tests.support.databases import Database
from tests.support.keys import random_key
from tests.support.waiting import PATIENCE_S

ANN, ANN_BEFORE, EYES = random_key(), random_key(), random_key()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    ann = OperatorKey(name="ann", role="operate", key=SecretStr(ANN), previous=SecretStr(ANN_BEFORE))
    eyes = OperatorKey(name="grafana", role="read", key=SecretStr(EYES))
    return settings.model_copy(update={"ops_api_keys": (ann, eyes)})


@pytest.fixture
async def ann(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(app, {"X-API-Key": ANN}) as client:
        yield client


@pytest.fixture
async def eyes(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(app, {"X-API-Key": EYES}) as client:
        yield client


COUNTED = (
    "SELECT who, route, status_code, code, CAST(sum(count) AS int) AS times FROM access_counts GROUP BY 1, 2, 3, 4"
)
"""Over all hours: a test may run from one into the next."""


async def counted(app: FastAPI, engine: Engine) -> dict[tuple[str, str, int, str], int]:
    """(who, route, status, code) -> how often, as stored."""
    edge: Edge = app.state.edge
    await edge.access.store()
    with engine.connect() as connection:
        rows = connection.execute(text(COUNTED))
        return {(r.who, r.route, r.status_code, r.code): r.times for r in rows}


def actions(engine: Engine) -> list[tuple[str, str, str]]:
    with engine.connect() as connection:
        rows = connection.execute(text('SELECT "by", action, subject FROM operator_actions ORDER BY id'))
        return [(r.by, r.action, r.subject) for r in rows]


@pytest.fixture(autouse=True)
def _stored_by_the_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that the API stores meanwhile would be missing where a test looks, and a busy machine is no outage."""
    monkeypatch.setattr(access_audit, "STORE_EVERY_S", 10 * PATIENCE_S)
    monkeypatch.setattr(access_audit, "STORE_S", PATIENCE_S)


class TestUses:
    """Every use of a key, and of clients what was refused."""

    async def test_each_caller_by_name_route_and_end(
        self, app: FastAPI, engine: Engine, site: httpx.AsyncClient, anna: httpx.AsyncClient, secrets: Secrets
    ) -> None:
        for _ in range(2):
            assert (await site.post("/api/vps/sync", json=create())).status_code == 202
        await site.get("/api/vps/sync/operations/999", headers={"X-API-Key": secrets.previous})
        await anna.get("/api/vps")
        await anna.get("/api/vps/999")
        await anna.get("/api/vps", headers={"Authorization": "Bearer nonsense"})
        await anna.get("/nowhere")
        found = await counted(app, engine)
        assert found == {
            ("main-site:current", "POST /api/vps/sync", 202, ""): 2,
            ("main-site:previous", "GET /api/vps/sync/operations/{operation_id}", 404, "operation_unknown"): 1,
            ("client:5", "GET /api/vps/{vps_id}", 404, "vps_unknown"): 1,
            ("token", "GET /api/vps", 401, "token_invalid"): 1,
        }
        await site.post("/api/vps/sync", json=create())
        assert (await counted(app, engine))["main-site:current", "POST /api/vps/sync", 202, ""] == 3

    async def test_a_wrong_key_leaves_a_keyed_hash_of_its_beginning_and_nothing_else(
        self, app: FastAPI, engine: Engine, site: httpx.AsyncClient, logged: list[dict[str, Any]]
    ) -> None:
        for key in ("LEAKED-BEGINNING-and-one-end", "LEAKED-BEGINNING-and-another", "OTHERWISE-and-so-on"):
            await site.get("/api/vps/sync/records", headers={"X-API-Key": key})
        del site.headers["X-API-Key"]
        await site.get("/api/ops/held")
        found = await counted(app, engine)
        tried = {who: n for (who, route, *_), n in found.items() if route == "GET /api/vps/sync/records"}
        assert sorted(tried.values()) == [1, 2]
        assert all(who.startswith("key:") and len(who) == len("key:") + 12 for who in tried)
        assert found["no-key", "GET /api/ops/held", 401, "invalid_api_key"] == 1
        assert "LEAKED" not in f"{found} {logged}"

    async def test_a_database_that_is_away_delays_counts_and_loses_none(
        self, database: Database, engine: Engine, app: FastAPI
    ) -> None:
        away = async_engine("postgresql://127.0.0.1:1/none", "panel-sync test")
        there = database.api_engine("panel-sync test")
        audit = AccessAudit(away, lambda: 0.0)
        scope = {"caller": "no-key", "method": "GET", "client": ("192.0.2.1", 1), "request_id": "r"}
        try:
            audit.note(scope, 401)
            await audit.store()
            audit.note(scope, 401)
            audit._engine = there
            await audit.store()
            await audit.store()
        finally:
            await away.dispose()
            await there.dispose()
        assert await counted(app, engine) == {("no-key", "GET ?", 401, ""): 2}

    async def test_what_is_left_is_stored_when_the_api_ends(
        self, app: FastAPI, engine: Engine, site: httpx.AsyncClient
    ) -> None:
        await site.get("/api/vps/sync/operations/1")
        edge: Edge = app.state.edge
        await edge.access.stop()
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT sum(count) FROM access_counts")) == 1

    async def test_refused_calls_keep_their_detail_up_to_a_number_and_all_are_counted(
        self, app: FastAPI, engine: Engine, site: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(refusals, "DETAILS_AN_HOUR", 3)
        for _ in range(4):
            assert (await site.post("/api/vps/sync", json=create(user_id=4711))).status_code == 422
            assert (await site.post("/api/vps/sync", json={"action": "create"})).status_code == 400
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM refused_calls")) == 3
        found = await counted(app, engine)
        assert found["main-site:current", "POST /api/vps/sync", 422, "user_unknown"] == 4
        assert found["main-site:current", "POST /api/vps/sync", 400, "missing_fields"] == 4

    async def test_a_batch_is_counted_by_its_items_and_keeps_the_detail_of_some(
        self, app: FastAPI, engine: Engine, site: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(refusals, "DETAILS_A_REQUEST", 3)
        items = [create(user_id=4711)] * 2 + [{"action": "create"}] * 4 + [create()]
        assert (await site.post("/api/vps/sync/batch", json={"items": items})).status_code == 200
        await site.post("/api/vps/sync", json=create(user_id=4711))
        with engine.connect() as connection:
            codes = connection.scalars(text("SELECT code FROM refused_calls ORDER BY code")).all()
        assert codes == ["missing_fields", "user_unknown", "user_unknown", "user_unknown"]
        found = await counted(app, engine)
        batch = ("main-site:current", "POST /api/vps/sync/batch")
        assert found[*batch, 422, "user_unknown"] == 2
        assert found[*batch, 400, "missing_fields"] == 4
        assert found[*batch, 200, ""] == 1


class TestRoles:
    """Reading and deciding are two rights; each operator has a name."""

    async def test_a_reader_reads_everything_and_decides_nothing(
        self, eyes: httpx.AsyncClient, engine: Engine, app: FastAPI
    ) -> None:
        for method, path in EVERY:
            answer = await eyes.request(method, f"/api/ops{path}", json={})
            if method == "GET":
                assert answer.status_code in {200, 404}, path
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "role_required"), path
        assert actions(engine) == []
        refused = {
            route for who, route, status, _ in await counted(app, engine) if (who, status) == ("api:grafana", 403)
        }
        assert len(refused) == len([method for method, _ in EVERY if method == "POST"])

    async def test_the_role_is_told_only_to_a_right_key(self, eyes: httpx.AsyncClient) -> None:
        answer = await eyes.post("/api/ops/pause", json={}, headers={"X-API-Key": EYES[:-1]})
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")

    async def test_both_keys_of_a_rotation_are_one_operator(
        self, app: FastAPI, engine: Engine, ann: httpx.AsyncClient
    ) -> None:
        for key in (ANN_BEFORE, ANN):
            answer = await ann.post("/api/ops/reconcile", json={"vps": 7}, headers={"X-API-Key": key})
            assert answer.status_code == 202
        assert actions(engine) == [("api:ann", "reconcile", "vps:7")] * 2
        used = {who for who, *_ in await counted(app, engine)}
        assert used == {"api:ann/previous", "api:ann"}, "it shows when the old one is no longer used"

    @pytest.mark.parametrize("key", ["sync", "previous"])
    async def test_an_operators_key_is_no_sync_key_nor_the_other_way_round(
        self, ann: httpx.AsyncClient, secrets: Secrets, key: str
    ) -> None:
        assert (await ann.post("/api/vps/sync", json=create())).status_code == 401
        assert (await ann.get("/api/ops/held", headers={"X-API-Key": getattr(secrets, key)})).status_code == 401


class TestDecisions:
    """Each leaves its row, in its own transaction."""

    async def test_every_route_that_decides(
        self, app: FastAPI, engine: Engine, ann: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker
    ) -> None:
        first, second = hold(engine, 1), hold(engine, 2)
        raise_findings(engine)
        vps = (await site.post("/api/vps/sync", json=create())).json()["vps"]["id"]
        worker.apply((await site.post("/api/vps/sync", json=delete(vps))).json()["operation"]["id"])
        dead = [(await site.post("/api/vps/sync", json=create())).json()["operation"]["id"] for _ in range(2)]
        with engine.begin() as connection:
            for statement in DECIDABLE:
                connection.execute(text(statement))
            connection.execute(
                text("UPDATE operations SET state = 'dead', applied_at = now() WHERE id = ANY(:dead)"), {"dead": dead}
            )
        decided: list[tuple[str, str, dict[str, Any], str, str]] = [
            ("/held/{held_hash}/approve", first.hash, {}, "approve", first.hash),
            ("/held/{held_hash}/reject", second.hash, {}, "reject", second.hash),
            ("/findings/{finding_id}/ack", "1", {}, "findings ack", "finding:1"),
            ("/findings/{finding_id}/snooze", "2", {"for_s": 60}, "findings snooze", "finding:2"),
            ("/findings/{finding_id}/ignore", "1", {"reason": "Mrs Smith's own"}, "findings ignore", "finding:1"),
            ("/findings/{finding_id}/unignore", "1", {}, "findings unignore", "finding:1"),
            ("/findings/{finding_id}/ignore", "1", {"reason": "Mrs Smith's own"}, "findings ignore", "finding:1"),
            ("/findings/{finding_id}/heed", "1", {}, "findings unignore", "finding:1"),
            ("/adopt", "", ADOPTED | {"reason": "Mrs Smith's own"}, "adopt guest", "guest:main/900 order:7041"),
            ("/adoptions/{adoption_id}/withdraw", "1", {"reason": "Mrs Smith's not"}, "adopt withdraw",
             "guest:main/900 order:7041"),
            ("/vps/{vps_id}/restore", str(vps), {"reason": "Mrs Smith paid"}, "vps restore", f"vps:{vps}"),
            ("/pause", "", {"target": "feed", "reason": "Mrs Smith asked", "for_s": 60}, "pause", "feed"),
            ("/resume", "", {"target": "feed"}, "resume", "feed"),
            ("/release", "", {"subject": "vps:9"}, "release", "vps:9"),
            ("/acknowledge", "", {"source": "orders"}, "acknowledge", "orders"),
            ("/reconcile", "", {}, "reconcile", "everything"),
            ("/what-if", "", {"policy": {"orphan": "repair"}}, "plan", "what-if:1"),
            ("/dead/{operation_id}/requeue", str(dead[0]), {}, "requeue", f"operation:{dead[0]}"),
            ("/dead/{operation_id}/discard", str(dead[1]), {"reason": "Mrs Smith left"}, "discard",
             f"operation:{dead[1]}"),
            ("/webhooks/enable", "", {}, "webhooks enable", "webhook:main-site"),
            ("/webhooks/replay", "", {"event": 1}, "webhooks replay", "webhook-event:1"),
        ]  # fmt: skip
        documented = app.openapi()["paths"].items()
        writes = {path for path, methods in documented if path.startswith("/api/ops") and set(methods) - {"get"}}
        assert {f"/api/ops{path}" for path, *_ in decided} == writes, "a new decision needs its row, and a line here"
        for path, named, body, *_ in decided:
            template, _, rest = path.partition("{")
            answer = await ann.post(f"/api/ops{template}{named}{rest.partition('}')[2]}", json=body)
            assert answer.is_success, answer.text
        noted = [(action, subject) for *_, action, subjects in decided for subject in subjects.split()]
        assert actions(engine) == [("api:ann", action, subject) for action, subject in noted]
        audit = await ann.get("/api/ops/audit")
        shown = AuditAnswer.model_validate_json(audit.content).data
        assert [one.action for one in shown.actions] == [action for action, _ in noted][::-1]
        assert all(one.network == "127.0.0.1" and one.request_id for one in shown.actions)
        assert "Smith" not in audit.text, "what people write is kept with what it explains, not here"

    async def test_what_could_not_be_done_is_no_decision_but_is_counted(
        self, app: FastAPI, engine: Engine, ann: httpx.AsyncClient
    ) -> None:
        assert (await ann.post("/api/ops/resume", json={"target": "feed"})).status_code == 409
        assert actions(engine) == []
        assert (await counted(app, engine))["api:ann", "POST /api/ops/resume", 409, "operator_conflict"] == 1

    async def test_a_decision_that_cannot_be_noted_does_not_happen(
        self, database: Database, engine: Engine, ann: httpx.AsyncClient
    ) -> None:
        owner = async_engine(database.owner_url, "panel-sync test")
        async with owner.begin() as connection:
            await connection.execute(text("REVOKE INSERT ON operator_actions FROM panel_app"))
        await owner.dispose()
        answer = await ann.post("/api/ops/reconcile", json={})
        assert answer.status_code == 500
        with engine.connect() as reading:
            assert reading.scalar(text("SELECT count(*) FROM task_requests")) == 0

    def test_the_application_cannot_rewrite_what_was_done(self, engine: Engine) -> None:
        with engine.connect() as connection:
            asked = text("SELECT has_any_column_privilege(:role, 'operator_actions', :right)")
            for role, right, held in (
                ("panel_app", "UPDATE", False),
                ("panel_app", "INSERT", True),
                ("panel_app", "SELECT", True),
                ("panel_client", "SELECT", False),
            ):
                assert connection.scalar(asked, {"role": role, "right": right}) is held, (role, right)


DECIDABLE = (
    UNSOLD,
    "UPDATE findings SET cluster = 'main', vmid = 900 WHERE id = 1",
    "UPDATE users SET main_site_user_id = '77', map_source = 'operator' WHERE id = 5",
    "INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id_given,"
    " first_seen_at, changed_at) SELECT '7041', 'active', 'running', t, '77', t, true, t, t FROM now() t",
    "INSERT INTO source_states (source, degraded_since) VALUES ('orders', clock_timestamp())",
    "INSERT INTO quarantine"
    " (subject, stage, cause, failures, first_failed_at, last_failed_at, next_try_at, last_run_id)"
    " SELECT 'vps:9', 'decide', 'a test', 1, now(), now(), clock_timestamp(), max(id) FROM runs",
    "INSERT INTO webhook_events (message_id, vps_id, type, body) VALUES ('msg_1', 9, 'vps.updated', '{}')",
    "UPDATE webhook_endpoint SET wanted = true, disabled_at = clock_timestamp()",
)
"""What ignore, adopt, acknowledge, release, enable and replay need."""
ADOPTED = {"cluster": "main", "vmid": 900, "guest_type": "qemu", "fingerprint": "smbios:a", "order_id": "7041"}


async def test_the_audit_shows_no_key(
    app: FastAPI, engine: Engine, ann: httpx.AsyncClient, site: httpx.AsyncClient, secrets: Secrets
) -> None:
    await site.post("/api/vps/sync", json=create(user_id=4711, name="Mrs Smith"))
    await site.post("/api/vps/sync", json=create(), headers={"X-API-Key": "wrong" * 8})
    await counted(app, engine)
    for query in ("", "?refused=true", "?limit=1"):
        answer = await ann.get(f"/api/ops/audit{query}")
        shown = AuditAnswer.model_validate_json(answer.content).data
        assert shown.access
        assert shown.refused_calls
        assert "refused" not in query or all(400 <= one.status_code < 500 for one in shown.access)
        for hidden in (secrets.sync, secrets.operator, ANN, ANN_BEFORE, EYES, "wrong", "Smith"):
            assert hidden not in answer.text
