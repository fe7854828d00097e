"""What clients read: their own records, page by page, and how fresh they are."""

from __future__ import annotations

import json
from datetime import datetime

import httpx
import pytest
from sqlalchemy import Engine, select, text

from api import openapi
from panel.records.reads import reading_as_client
from panel.schema import tables
from tests.integration.api.conftest import Secrets, Worker
from tests.integration.api.test_api_sync import create, delete, update
from tests.support.databases import Database
from tests.support.fleets.world import vps_row


@pytest.fixture
async def fleet(site: httpx.AsyncClient, worker: Worker) -> list[int]:
    """Seven VPS of Anna and, between them, three of Boris; Anna's ids, oldest first."""
    ids = []
    for n in range(10):
        owner = 6 if n % 3 == 1 else 5
        answer = (await site.post("/api/vps/sync", json=create(user_id=owner, name=f"vps-{n}"))).json()
        worker.apply(answer["operation"]["id"])
        if owner == 5:
            ids.append(answer["vps"]["id"])
    return ids


async def _ids(client: httpx.AsyncClient, **query: str | int) -> list[int]:
    answer = await client.get("/api/vps", params=query)
    assert answer.status_code == 200, answer.text
    openapi.ListAnswer.model_validate_json(answer.content)
    return [record["id"] for record in answer.json()["data"]]


async def test_own_records_only_newest_first(
    anna: httpx.AsyncClient, boris: httpx.AsyncClient, fleet: list[int]
) -> None:
    assert await _ids(anna) == fleet[::-1]
    assert set(await _ids(boris)).isdisjoint(fleet)
    assert len(await _ids(boris)) == 3


async def test_every_record_once_over_all_pages(anna: httpx.AsyncClient, fleet: list[int]) -> None:
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = (await anna.get("/api/vps", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [record["id"] for record in answer["data"]]
        cursor = answer["next_cursor"]
    assert seen == fleet[::-1]


async def test_no_cursor_leads_to_an_empty_page(anna: httpx.AsyncClient, fleet: list[int]) -> None:
    answer = (await anna.get("/api/vps", params={"limit": len(fleet)})).json()
    assert answer["next_cursor"] is None


async def test_filter_by_status(
    anna: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker, fleet: list[int]
) -> None:
    worker.apply((await site.post("/api/vps/sync", json=update(fleet[2]))).json()["operation"]["id"])
    assert await _ids(anna, status="running") == [fleet[2]]
    assert await _ids(anna, status="suspended") == []


WRONG_QUERIES = (
    "status=deleted", "status=", "limit=0", "limit=101", "limit=x", "cursor=made-up", "cursor=", "cursor=" + "a" * 65,
)  # fmt: skip


async def test_a_wrong_parameter_is_named(anna: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for query in WRONG_QUERIES:
        with subtests.test(query):
            answer = await anna.get(f"/api/vps?{query}")
            said = answer.json()
            assert (answer.status_code, said["code"]) == (422, "invalid_parameter")
            assert said["field"] == query.partition("=")[0]


async def test_a_deleted_record_is_gone(
    anna: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker, fleet: list[int]
) -> None:
    worker.apply((await site.post("/api/vps/sync", json=delete(fleet[0]))).json()["operation"]["id"])
    assert fleet[0] not in await _ids(anna)
    assert (await anna.get(f"/api/vps/{fleet[0]}")).status_code == 404


async def test_somebody_elses_record_is_as_absent_as_one_that_never_was(
    anna: httpx.AsyncClient, boris: httpx.AsyncClient, fleet: list[int]
) -> None:
    own = await anna.get(f"/api/vps/{fleet[0]}")
    assert (own.status_code, own.json()["data"]["id"]) == (200, fleet[0])
    openapi.OneAnswer.model_validate_json(own.content)
    same_id = {"X-Request-Id": "r"}
    others = await boris.get(f"/api/vps/{fleet[0]}", headers=same_id)
    never = await boris.get("/api/vps/987654", headers=same_id)
    assert (others.status_code, never.status_code) == (404, 404)
    assert others.json() == json.loads(never.text.replace("987654", str(fleet[0])))


async def test_a_user_the_panel_does_not_know_has_nothing_and_no_row_is_made(
    anna: httpx.AsyncClient, secrets: Secrets, engine: Engine, fleet: list[int]
) -> None:
    anna.headers["Authorization"] = f"Bearer {secrets.token(4711)}"
    answer = await anna.get("/api/vps")
    assert (answer.status_code, answer.json()) == (200, {"status": "success", "data": [], "next_cursor": None})
    with engine.connect() as connection:
        assert connection.scalar(select(tables.users.c.id).where(tables.users.c.id == 4711)) is None


async def test_without_a_token(anna: httpx.AsyncClient, secrets: Secrets) -> None:
    del anna.headers["Authorization"]
    for path in ("/api/vps", "/api/vps/1"):
        for headers in ({}, {"X-API-Key": secrets.sync}, {"Authorization": f"Bearer {secrets.sync}"}):
            answer = await anna.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_an_unchanged_list_is_304(
    anna: httpx.AsyncClient, boris: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker, fleet: list[int]
) -> None:
    first = await anna.get("/api/vps")
    etag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert first.headers["Vary"] == "Authorization"
    same = await anna.get("/api/vps", headers={"If-None-Match": f'"x", W/{etag}'})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    assert (await boris.get("/api/vps", headers={"If-None-Match": etag})).status_code == 200
    worker.apply((await site.post("/api/vps/sync", json=update(fleet[0]))).json()["operation"]["id"])
    assert (await anna.get("/api/vps", headers={"If-None-Match": etag})).status_code == 200


async def test_a_pooled_connection_forgets_the_client(database: Database, fleet: list[int]) -> None:
    engine = database.api_engine("panel-sync test", pool_size=1)
    try:
        async with reading_as_client(engine, 5) as connection:
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        async with engine.connect() as connection:
            after = await connection.execute(
                text("SELECT pg_backend_pid(), current_user, current_setting('panel.user_id', true), count(*) FROM vps")
            )
            same_pid, user, setting, count = after.one()
        assert (same_pid, user, count) == (pid, "panel_login", 10)
        assert not setting
    finally:
        await engine.dispose()


async def test_a_linked_record_is_as_fresh_as_the_last_complete_read_of_its_node(
    anna: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker, engine: Engine
) -> None:
    posted = (
        await site.post("/api/vps/sync", json=create(status="running", cluster="pve", node="n1", vmid=100))
    ).json()
    worker.apply(posted["operation"]["id"])
    vps_id = posted["vps"]["id"]

    async def seen() -> tuple[str, str, bool]:
        record = (await anna.get(f"/api/vps/{vps_id}")).json()["data"]
        return record["as_of"], record["source"], record["stale"]

    stored = vps_row(engine, vps_id)
    assert stored is not None
    assert await seen() == (stored["power_as_of"].isoformat(), "sync", False)
    with engine.begin() as connection:
        began: datetime = connection.execute(
            text(
                "WITH r AS (INSERT INTO runs (kind, trigger, epoch, state)"
                "  VALUES ('fast', 'test', 1, 'done') RETURNING id),"
                " s AS (INSERT INTO snapshots (run_id, source, scope, complete, count)"
                "  SELECT id, 'proxmox:pve', 'n1', true, 1 FROM r RETURNING id)"
                " INSERT INTO scopes (source, scope, snapshot_id, began_at, count)"
                " SELECT 'proxmox:pve', 'n1', id, clock_timestamp(), 1 FROM s RETURNING began_at"
            )
        ).scalar_one()
    assert await seen() == (began.isoformat(), "proxmox", False)
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE vps SET power_unconfirmed_since = clock_timestamp(),"
                " power_as_of = power_as_of - interval '1 hour'"
            )
        )
    as_of, source, stale = await seen()
    assert (source, stale) == ("sync", True)
    assert as_of < began.isoformat()
