"""A 304 is the promise that the caller has the very bytes that a 200 would bring."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
import pytest
from sqlalchemy import Engine, text

from api.client import entity_tags
from panel.records.client_records import CLIENT_COLUMNS
from tests.integration.api.conftest import Worker
from tests.integration.api.test_api_sync import create, delete, update
from tests.support.waiting import PATIENCE_S

SCANNED = """
WITH r AS (INSERT INTO runs (kind, trigger, epoch, state) VALUES ('fast', 'test', 1, 'done') RETURNING id),
 s AS (INSERT INTO snapshots (run_id, source, scope, complete, count)
  SELECT id, 'proxmox:pve', 'n1', true, 1 FROM r RETURNING id)
INSERT INTO scopes (source, scope, snapshot_id, began_at, count)
 SELECT 'proxmox:pve', 'n1', id, clock_timestamp(), 1 FROM s
ON CONFLICT (source, scope) DO UPDATE SET began_at = clock_timestamp()
"""

OTHER_VALUES: Mapping[str, str] = {
    "name": "'another'",
    "status": "'error'",
    "cpu": "7",
    "ram_mb": "7168",
    "disk_gb": "77",
    "os": "'Other'",
    "hypervisor": "'vmware'",
    "ip_address": "'192.0.2.9'",
    "ip6_address": "'2001:db8::9'",
    "order_id": "'other'",
    "order_state": "'suspended'",
    "order_source": "'operator'",
    "order_as_of": "order_as_of - interval '1 s'",
    "power_state": "'stopped'",
    "power_detail": "'paused'",
    # From here on the node's read confirms nothing any more.
    "power_unconfirmed_since": "clock_timestamp()",
    "power_source": "'proxmox'",
    "power_as_of": "power_as_of - interval '1 h'",
    "created_at": "created_at - interval '1 s'",
    "updated_at": "updated_at + interval '1 s'",
    "link_state": "'unlinked', cluster = NULL, node = NULL, vmid = NULL, guest_type = NULL",
}
"""By column, a value that the record of these tests does not have. No version goes with it: whoever writes a value
changes the tag, even an operator in psql."""


@pytest.fixture
async def vps(site: httpx.AsyncClient, worker: Worker, engine: Engine) -> int:
    """Anna's VPS on a node that was read."""
    answer = await site.post("/api/vps/sync", json=create(status="running", cluster="pve", node="n1", vmid=100))
    worker.apply(answer.json()["operation"]["id"])
    with engine.begin() as connection:
        connection.execute(text(SCANNED))
    return int(answer.json()["vps"]["id"])


async def seen(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """The whole answer. It is unchanged for whoever has it."""
    answer = await client.get(path)
    assert answer.status_code == 200
    again = await client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", answer.headers["ETag"])
    return answer


async def assert_honest(client: httpx.AsyncClient, path: str, before: httpx.Response) -> bool:
    """304 if and only if the bytes are the same. Returns whether they are."""
    again = await client.get(path, headers={"If-None-Match": before.headers["ETag"]})
    now = await client.get(path)
    same = now.content == before.content
    assert (again.status_code == 304) == same
    assert (again.headers.get("ETag") == before.headers["ETag"]) == same
    return same


class TestEveryWriter:
    async def test_of_any_column(
        self, anna: httpx.AsyncClient, engine: Engine, vps: int, subtests: pytest.Subtests
    ) -> None:
        assert set(CLIENT_COLUMNS) - set(OTHER_VALUES) == {"id", "user_id"}, "those say whose record it is"
        silent = set()
        for column, value in OTHER_VALUES.items():
            before = {path: await seen(anna, path) for path in ("/api/vps", f"/api/vps/{vps}")}
            with engine.begin() as connection:
                connection.execute(text(f"UPDATE vps SET {column} = {value} WHERE id = :id"), {"id": vps})
            for path, answer in before.items():
                with subtests.test(f"{path}: {column}"):
                    if await assert_honest(anna, path, answer):
                        silent.add(column)
        assert silent == {"order_source", "order_as_of"}, "all others show in an answer"

    async def test_of_a_call(
        self, anna: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker, vps: int, subtests: pytest.Subtests
    ) -> None:
        for name, call in (("update", update(vps, "stopped")), ("create", create(name="b")), ("delete", delete(vps))):
            with subtests.test(name):
                before = await seen(anna, "/api/vps")
                worker.apply((await site.post("/api/vps/sync", json=call)).json()["operation"]["id"])
                assert not await assert_honest(anna, "/api/vps", before)

    async def test_of_a_read_of_the_node(self, anna: httpx.AsyncClient, engine: Engine, vps: int) -> None:
        before = await seen(anna, f"/api/vps/{vps}")
        with engine.begin() as connection:
            connection.execute(text(SCANNED))
        assert not await assert_honest(anna, f"/api/vps/{vps}", before)

    async def test_of_another_owner(self, anna: httpx.AsyncClient, engine: Engine, vps: int) -> None:
        one, every = await seen(anna, f"/api/vps/{vps}"), await seen(anna, "/api/vps")
        with engine.begin() as connection:
            connection.execute(text("UPDATE vps SET user_id = 6 WHERE id = :id"), {"id": vps})
        assert not await assert_honest(anna, "/api/vps", every)
        gone = await anna.get(f"/api/vps/{vps}", headers={"If-None-Match": one.headers["ETag"]})
        assert gone.status_code == 404

    async def test_time_makes_a_record_stale_without_a_writer(
        self, anna: httpx.AsyncClient, engine: Engine, vps: int
    ) -> None:
        path = f"/api/vps/{vps}"
        with engine.begin() as connection:
            connection.execute(text("UPDATE scopes SET began_at = began_at - interval '1 h'"))
        old = text("UPDATE vps SET power_as_of = clock_timestamp() - interval '599 s' WHERE id = :id")
        async with asyncio.timeout(PATIENCE_S):
            while True:  # a slow machine may read it when the second is over
                with engine.begin() as connection:
                    connection.execute(old, {"id": vps})
                before = await anna.get(path)
                if before.json()["data"]["stale"] is False:
                    break
            while (
                now := await anna.get(f"/api/vps/{vps}", headers={"If-None-Match": before.headers["ETag"]})
            ).is_redirect:
                pass
        assert now.json()["data"] == before.json()["data"] | {"stale": True}


class TestWhatMakesAnAnswerOfTheValues:
    async def test_another_version_of_the_code(
        self, anna: httpx.AsyncClient, vps: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = await seen(anna, "/api/vps")
        monkeypatch.setattr(entity_tags, "CODE", "0" * 12)
        now = await anna.get("/api/vps", headers={"If-None-Match": before.headers["ETag"]})
        assert (now.status_code, now.json()["data"][0]["id"]) == (200, vps)

    async def test_a_further_page_that_goes(
        self, anna: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker, vps: int
    ) -> None:
        worker.apply((await site.post("/api/vps/sync", json=create(name="b"))).json()["operation"]["id"])
        before = await seen(anna, "/api/vps?limit=1")
        worker.apply((await site.post("/api/vps/sync", json=delete(vps))).json()["operation"]["id"])
        now = await anna.get("/api/vps?limit=1", headers={"If-None-Match": before.headers["ETag"]})
        assert now.json()["data"] == before.json()["data"]
        assert (before.json()["next_cursor"] is None, now.json()["next_cursor"]) == (False, None)

    async def test_a_tag_of_another_question_is_not_known(self, anna: httpx.AsyncClient, vps: int) -> None:
        every, one = await seen(anna, "/api/vps"), await seen(anna, f"/api/vps/{vps}")
        for path, tag in (("/api/vps", one), (f"/api/vps/{vps}", every), ("/api/vps?limit=7", every)):
            assert (await anna.get(path, headers={"If-None-Match": tag.headers["ETag"]})).status_code == 200

    async def test_what_callers_may_name(
        self, anna: httpx.AsyncClient, boris: httpx.AsyncClient, vps: int, subtests: pytest.Subtests
    ) -> None:
        tag = (await seen(anna, "/api/vps")).headers["ETag"]
        wrong = '"x", "'
        for named, status in (
            ("*", 304), (f"W/{tag}", 304), (f'"x", {tag}', 304), (tag.replace("-", "--", 1), 200), (wrong, 200),
            (f'"{entity_tags.CODE}-50-{"f" * 16}"', 200), (f'"{entity_tags.CODE}-50-{"f" * 17}"', 200),
            (f'"{entity_tags.CODE}-50-8{"0" * 15}"', 200),
        ):  # fmt: skip
            with subtests.test(named):
                assert (await anna.get("/api/vps", headers={"If-None-Match": named})).status_code == status
        await seen(boris, "/api/vps")
        for named in ("*", f'"{entity_tags.CODE}-0-{"0" * 16}"', tag):
            assert (await boris.get(f"/api/vps/{vps}", headers={"If-None-Match": named})).status_code == 404


async def test_a_tag_that_is_none_brings_the_whole_answer(
    anna: httpx.AsyncClient, site: httpx.AsyncClient, worker: Worker
) -> None:
    """The statement and the answer must agree on what was named: else a list comes without its records."""
    answer = await site.post("/api/vps/sync", json=create())
    worker.apply(answer.json()["operation"]["id"])
    path = f"/api/vps/{answer.json()['vps']['id']}"
    whole, one = await anna.get("/api/vps"), await anna.get(path)
    tag = whole.headers["ETag"]
    for odd in (f'"a, {tag}', f'"a,{tag}', tag.replace("-50-", "-050-")):
        again = await anna.get("/api/vps", headers={"If-None-Match": odd})
        assert again.status_code == 304 or again.json() == whole.json(), odd
    again = await anna.get(path, headers={"If-None-Match": one.headers["ETag"].replace("-0-", "-00-")})
    assert again.json() == one.json()
