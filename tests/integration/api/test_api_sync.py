"""Sync calls through the API into the journal: the main site's snippets, refusals, retries."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select, text

from api import openapi
from panel.schema import tables
from tests.integration.api.conftest import Secrets, Worker
from tests.support.fleets.world import journal

CREATE: dict[str, Any] = {
    "action": "create",
    "vps": {
        "user_id": 5, "name": "test-vps-01", "status": "creating", "cpu": 4, "ram": 8192, "disk": 100,
        "os": "Ubuntu 22.04 LTS", "hypervisor": "proxmox",
    },
}  # fmt: skip


def create(**fields: object) -> dict[str, Any]:
    return {"action": "create", "vps": CREATE["vps"] | fields}


def update(vps_id: int, status: str = "running") -> dict[str, Any]:
    return {"action": "update", "vps": {"id": vps_id, "status": status}}


def delete(vps_id: int) -> dict[str, Any]:
    return {"action": "delete", "vps": {"id": vps_id}}


def audited(engine: Engine) -> list[tuple[object, ...]]:
    rows = tables.refused_calls.c
    with engine.connect() as connection:
        found = connection.execute(
            select(rows.status_code, rows.code, rows.action, rows.user_id, rows.vps_id, rows.api_key_label)
        )
        return [tuple(row) for row in found]


def journaled(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM operations")) or 0


async def test_the_life_of_a_vps_in_the_main_sites_words(site: httpx.AsyncClient, worker: Worker) -> None:
    created = await site.post("/api/vps/sync", json=CREATE)
    assert created.status_code == 202
    body = created.json()
    openapi.SyncAnswer.model_validate_json(created.content)
    assert body["status"] == "success"
    vps_id = body["vps"]["id"]
    assert isinstance(vps_id, int)
    assert body["vps"] | CREATE["vps"] == body["vps"], "the answer shows what will be written"
    assert created.headers["Location"] == body["operation"]["url"]

    updated = await site.post("/api/vps/sync", json=update(vps_id))
    assert (updated.status_code, updated.json()["vps"]["status"]) == (202, "running")

    deleted = await site.post("/api/vps/sync", json=delete(vps_id))
    assert (deleted.status_code, deleted.json()["status"], deleted.json()["vps"]["id"]) == (202, "success", vps_id)

    worker.apply(deleted.json()["operation"]["id"])
    again = await site.post("/api/vps/sync", json=delete(vps_id))
    assert (again.status_code, again.json()["message"]) == (200, f"VPS {vps_id} was already deleted")

    late = await site.post("/api/vps/sync", json=update(vps_id))
    assert (late.status_code, late.json()["code"]) == (404, "vps_deleted")


async def test_a_second_create_of_an_order_finds_the_first(site: httpx.AsyncClient) -> None:
    first = (await site.post("/api/vps/sync", json=create(order_id=1204))).json()
    again = await site.post("/api/vps/sync", json=create(order_id="1204"))
    assert again.status_code == 200
    assert again.json()["vps"]["id"] == first["vps"]["id"]
    assert "already exists for order 1204" in again.json()["message"]


@pytest.mark.parametrize("which", ["sync", "previous"])
async def test_both_keys_are_good_while_they_are_changed_over(
    site: httpx.AsyncClient, secrets: Secrets, engine: Engine, which: str
) -> None:
    answer = await site.post("/api/vps/sync", json=CREATE, headers={"X-API-Key": getattr(secrets, which)})
    assert answer.status_code == 202
    label = journal(engine, answer.json()["vps"]["id"])[0]["api_key_label"]
    assert label == {"sync": "current", "previous": "previous"}[which]


JSON = "application/json"
Row = tuple[str, bytes | dict[str, Any], dict[str, str], int, str, str]
MISSING_ALL = "Missing required fields: vps.user_id, vps.name, vps.cpu, vps.ram, vps.disk, vps.os"
REFUSED: list[Row] = [
    ("no body", b"", {}, 400, "invalid_json", "Invalid JSON: Expecting value at line 1, column 1"),
    ("not JSON", b"{action: create}", {}, 400, "invalid_json",
     "Invalid JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
    ("a key twice", b'{"action": "create", "action": "delete", "vps": {"id": 1}}', {}, 400, "invalid_json",
     "Invalid JSON: a key occurs twice in one object"),
    ("NaN", b'{"action": "create", "vps": {"ram": NaN}}', {}, 400, "invalid_json",
     "Invalid JSON: NaN is not a JSON value"),
    ("NUL", b'{"action": "update", "vps": {"id": 1, "status": "a\\u0000"}}', {}, 400, "invalid_json",
     "Invalid JSON: a text contains a NUL character"),
    ("no JSON type", b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type",
     "Content-Type must be application/json"),
    ("too large", b" " * 4097, {}, 413, "body_too_large", "The body must not exceed 4096 bytes"),
    ("nothing", {}, {}, 400, "missing_fields", "Missing required fields: action, vps"),
    ("an empty create", {"action": "create", "vps": {}}, {}, 400, "missing_fields", MISSING_ALL),
    ("ram in GB", create(ram=8), {}, 422, "invalid_field", "vps.ram must be in MB, at least 128 (8 looks like GB)"),
    ("deleted as a status", update(1, "deleted"), {}, 422, "invalid_field",
     "vps.status cannot be set to deleted: use action delete"),
    ("an unknown user", create(user_id=77), {}, 422, "user_unknown", "User 77 does not exist in the panel database"),
    ("an unknown VPS", update(99), {}, 404, "vps_unknown", "VPS 99 does not exist in the panel"),
    ("an unknown VPS to delete", delete(99), {}, 404, "vps_unknown", "VPS 99 does not exist in the panel"),
    ("an unknown order", {"action": "delete", "vps": {"order_id": 4}}, {}, 404, "vps_unknown",
     "VPS of order 4 does not exist in the panel"),
    ("a bad idempotency key", CREATE, {"Idempotency-Key": "a b"}, 400, "invalid_idempotency_key",
     "Idempotency-Key must be one key of 1 to 255 visible ASCII characters"),
]  # fmt: skip


async def test_a_refusal_is_a_problem_and_leaves_only_an_audit_row(
    site: httpx.AsyncClient, engine: Engine, subtests: pytest.Subtests
) -> None:
    for name, body, headers, status_code, code, message in REFUSED:
        with subtests.test(name):
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            answer = await site.post("/api/vps/sync", content=content, headers={"Content-Type": JSON} | headers)
            said = answer.json()
            assert (answer.status_code, said["code"], said["message"]) == (status_code, code, message)
            assert answer.headers["Content-Type"] == "application/problem+json"
            openapi.Problem.model_validate_json(answer.content)
            assert (said["status"], said["detail"], said["instance"]) == (status_code, message, "/api/vps/sync")
            assert said["type"] == f"urn:panel-sync:problem:{code}"
            assert said["request_id"] == answer.headers["X-Request-Id"]
    assert journaled(engine) == 0
    assert [row[:2] for row in audited(engine)] == [(row[3], row[4]) for row in REFUSED]


async def test_the_audit_tells_who_and_what(site: httpx.AsyncClient, engine: Engine) -> None:
    await site.post("/api/vps/sync", json=create(cpu="many"))
    await site.post("/api/vps/sync", json={"action": "steal", "vps": {"id": 3}})
    assert audited(engine) == [
        (422, "invalid_field", "create", 5, None, "current"),
        (422, "invalid_field", None, None, 3, "current"),
    ]


async def test_without_the_key_nothing_is_read(
    site: httpx.AsyncClient, engine: Engine, subtests: pytest.Subtests
) -> None:
    del site.headers["X-API-Key"]
    for name, key in (
        ("none", None),
        ("empty", b""),
        ("wrong", b"wrong"),
        ("UTF-8", "ключ".encode()),
        ("not text", b"\xff"),
    ):
        headers = [] if key is None else [(b"X-API-Key", key)]
        for method, path in (
            ("POST", "/api/vps/sync"),
            ("GET", "/api/vps/sync/operations/1"),
            ("GET", "/api/vps/sync/records?order_id=1"),
        ):
            with subtests.test(f"{name}: {method} {path}"):
                answer = await site.request(method, path, content=b"not even JSON", headers=headers)
                assert (answer.status_code, answer.json()["message"]) == (401, "Invalid or missing API key")
    assert audited(engine) == [], "anybody could fill the audit otherwise"


async def test_too_many_wrong_keys_are_slowed_but_the_right_one_passes(site: httpx.AsyncClient) -> None:
    codes = {(await site.post("/api/vps/sync", headers={"X-API-Key": "wrong"})).status_code for _ in range(21)}
    assert codes == {401, 429}
    limited = await site.post("/api/vps/sync", headers={"X-API-Key": "wrong"})
    assert (limited.status_code, limited.json()["code"]) == (429, "too_many_bad_keys")
    assert 1 <= int(limited.headers["Retry-After"]) <= 60
    assert (await site.post("/api/vps/sync", json=CREATE)).status_code == 202


async def test_a_clients_token_is_no_api_key(site: httpx.AsyncClient, secrets: Secrets) -> None:
    del site.headers["X-API-Key"]
    answer = await site.post("/api/vps/sync", json=CREATE, headers={"Authorization": f"Bearer {secrets.token(5)}"})
    assert answer.status_code == 401


async def test_an_idempotency_key_replays_the_first_answer(site: httpx.AsyncClient, engine: Engine) -> None:
    headers = {"Idempotency-Key": '"order-1-attempt"'}
    first = await site.post("/api/vps/sync", json=CREATE, headers=headers)
    spaced = json.dumps(CREATE, indent=3, sort_keys=True).encode()
    again = await site.post(
        "/api/vps/sync", content=spaced, headers={"Idempotency-Key": "order-1-attempt", "Content-Type": JSON}
    )
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Location"] == first.headers["Location"]
    assert journaled(engine) == 1
    other = await site.post("/api/vps/sync", json=create(cpu=8), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_what_the_panel_ignores_is_in_no_hash(site: httpx.AsyncClient, engine: Engine) -> None:
    """A root password could be found by trying whose hash it is, were it hashed with the rest."""
    headers = {"Idempotency-Key": "k1"}
    bodies = [create(), create(rootPassword="one"), create(rootPassword="two", cpu=4.0, notes=None)]
    answers = [await site.post("/api/vps/sync", json=body, headers=headers) for body in bodies]
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true", "true"]
    assert journaled(engine) == 1


@pytest.mark.parametrize("token", ["of a client", "eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjo1fQ."])
async def test_a_token_is_no_idempotency_key(
    site: httpx.AsyncClient, engine: Engine, secrets: Secrets, token: str
) -> None:
    """It would be stored, and shown to operators."""
    given = secrets.token(5) if token == "of a client" else token
    answer = await site.post("/api/vps/sync", json=CREATE, headers={"Idempotency-Key": given})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")
    assert given not in answer.text
    assert journaled(engine) == 0


async def test_a_refused_call_leaves_its_key_free(site: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert (await site.post("/api/vps/sync", json=create(user_id=77), headers=headers)).status_code == 422
    assert (await site.post("/api/vps/sync", json=CREATE, headers=headers)).status_code == 202


async def test_a_request_id_is_kept_if_it_is_sane(site: httpx.AsyncClient, engine: Engine) -> None:
    answer = await site.post("/api/vps/sync", json=CREATE, headers={"X-Request-Id": "order-7.retry_2"})
    assert answer.headers["X-Request-Id"] == "order-7.retry_2"
    assert journal(engine, answer.json()["vps"]["id"])[0]["request_id"] == "order-7.retry_2"
    for bad in ("a b", "x" * 65, "<script>"):
        answer = await site.post("/api/vps/sync", json=CREATE, headers={"X-Request-Id": bad})
        assert len(answer.headers["X-Request-Id"]) == 32
        assert answer.headers["X-Request-Id"] != bad


FRAMEWORK = [
    ("GET", "/nowhere", 404, "not_found"),
    ("GET", "/api/vps/sync/", 404, "not_found"),
    ("GET", "/api/vps/sync", 405, "method_not_allowed"),
    ("PUT", "/api/vps/sync", 405, "method_not_allowed"),
    ("GET", "/api/vps/" + "9" * 5000, 404, "not_found"),
    ("GET", "/api/vps/sync/operations/" + "9" * 5000, 404, "not_found"),
    ("GET", "/api/vps/sync/operations/9999999999999999999", 404, "not_found"),
]


async def test_the_frameworks_own_refusals_have_the_same_shape(
    site: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    for method, path, status_code, code in FRAMEWORK:
        with subtests.test(f"{method} {path[:60]}"):
            answer = await site.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (status_code, code)
            assert answer.headers["Content-Type"] == "application/problem+json"
            openapi.Problem.model_validate_json(answer.content)
