"""A batch of sync calls: each item as if it were a call by itself, in order, on a real PostgreSQL that also fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from api import openapi
from api.dependencies import BATCHES_AT_ONCE
from api.main import create_app
from api.main_site import batch_models, batch_routes
from api.main_site.call_batch import MAX_BYTES, MAX_ITEMS, key_of
from panel.journal import accept
from panel.sessions import sync_engine
from panel.settings import Settings
from tests.integration.api.conftest import Secrets, calling
from tests.integration.api.test_api_sync import audited, create, delete, journaled, update
from tests.support.databases import Database, Databases
from tests.support.fleets.world import add_user, journal
from tests.support.stand_ins.refusing import allow, refuse
from tests.support.waiting import wait_until

BATCH = "/api/vps/sync/batch"
DISK_FAILS, A_BUG = "58030", "P0001"


def keyed(item: dict[str, Any], key: str) -> dict[str, Any]:
    return item | {"idempotency_key": key}


def of_order(action: str, order_id: str, **fields: object) -> dict[str, Any]:
    return {"action": action, "vps": {"order_id": order_id, **fields}}


async def posted(site: httpx.AsyncClient, *items: object) -> dict[str, Any]:
    answer = await site.post(BATCH, json={"items": items})
    assert answer.status_code == 200, answer.text
    batch_models.BatchAnswer.model_validate_json(answer.content)
    told: dict[str, Any] = answer.json()
    assert told["accepted"] == sum(item["http_status"] < 300 for item in told["items"])
    assert told["accepted"] + told["refused"] == len(told["items"]) == len(items)
    return told


def statuses(told: dict[str, Any]) -> list[int]:
    return [item["http_status"] for item in told["items"]]


def codes(told: dict[str, Any]) -> list[str | None]:
    return [item.get("code") for item in told["items"]]


def names(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT payload->>'name' FROM operations ORDER BY id")))


async def test_a_bad_item_spoils_no_other_and_order_is_kept(site: httpx.AsyncClient, engine: Engine) -> None:
    told = await posted(
        site,
        create(order_id=7041, name="first"),
        create(ram=8),
        of_order("update", "7041", status="running"),
        create(user_id=77),
        "no call at all",
        of_order("delete", "7041"),
        of_order("update", "7041", status="stopped"),
        create(order_id=7041, name="second"),
    )
    assert statuses(told) == [202, 422, 202, 422, 422, 202, 404, 202]
    assert codes(told) == [None, "invalid_field", None, "user_unknown", "invalid_field", None, "vps_deleted", None]
    first, second = told["items"][0]["vps"]["id"], told["items"][7]["vps"]["id"]
    assert [row["action"] for row in journal(engine, first)] == ["create", "update", "delete"]
    assert [row["action"] for row in journal(engine, second)] == ["create"]
    assert told["items"][2]["vps"]["status"] == "running"
    refused = [(row[0], row[1]) for row in audited(engine)]
    assert sorted(refused) == sorted(
        (item["http_status"], item["code"]) for item in told["items"] if item["http_status"] >= 400
    )


async def test_a_batch_that_comes_again_is_answered_again(site: httpx.AsyncClient, engine: Engine) -> None:
    items = [keyed(create(name=f"vps-{n}"), f"k-{n}") for n in range(3)]
    first = await posted(site, *items)
    again = await posted(site, *items, keyed(create(cpu=8), "k-0"))
    assert again["items"][:3] == [item | {"idempotent_replayed": True} for item in first["items"]]
    assert codes(again)[3] == "idempotency_key_reused"
    assert journaled(engine) == 3
    # A single call with the key of an item is a retry of it, and the other way round.
    single = await site.post("/api/vps/sync", json=create(name="vps-0"), headers={"Idempotency-Key": "k-0"})
    assert single.headers["Idempotent-Replayed"] == "true"


WHOLE: list[tuple[str, bytes, dict[str, str], int, str]] = [
    ("not JSON", b"{", {}, 400, "invalid_json"),
    ("no item", b'{"items": []}', {}, 422, "invalid_field"),
    ("one too many", json.dumps({"items": [{}] * (MAX_ITEMS + 1)}).encode(), {}, 422, "invalid_field"),
    ("too large", b" " * (MAX_BYTES + 1), {}, 413, "body_too_large"),
    ("a common key", b'{"items": [{}]}', {"Idempotency-Key": "k"}, 400, "invalid_idempotency_key"),
]  # fmt: skip


async def test_what_concerns_all_is_one_problem(
    site: httpx.AsyncClient, engine: Engine, subtests: pytest.Subtests
) -> None:
    for name, body, headers, status_code, code in WHOLE:
        with subtests.test(name):
            answer = await site.post(BATCH, content=body, headers={"Content-Type": "application/json"} | headers)
            assert (answer.status_code, answer.json()["code"]) == (status_code, code)
            openapi.Problem.model_validate_json(answer.content)
    assert [row[1] for row in audited(engine)] == [row[4] for row in WHOLE]
    assert journaled(engine) == 0


async def test_one_wrong_key_counts_once_however_many_items(site: httpx.AsyncClient, engine: Engine) -> None:
    body = {"items": [create()] * 30}
    answers = [await site.post(BATCH, json=body, headers={"X-API-Key": "wrong"}) for _ in range(21)]
    assert [answer.status_code for answer in answers] == [401] * 20 + [429]
    assert (journaled(engine), audited(engine)) == (0, [])


async def test_too_many_batches_are_refused_before_they_are_parsed(app: FastAPI, site: httpx.AsyncClient) -> None:
    async with contextlib.AsyncExitStack() as under_way:
        for _ in range(BATCHES_AT_ONCE):
            await under_way.enter_async_context(app.state.edge.batches)
        answer = await site.post(BATCH, content=b"{", headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "overloaded", "1")
    assert statuses(await posted(site, create())) == [202]


async def test_a_large_batch_lets_others_work_meanwhile(
    site: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, seen = 0, set[int]()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def watched(item: object) -> str | None:
        seen.add(turns)
        return key_of(item)

    monkeypatch.setattr(batch_routes, "key_of", watched)
    other = asyncio.create_task(others())
    await posted(site, *[{}] * MAX_ITEMS)
    other.cancel()
    assert len(seen) >= MAX_ITEMS // batch_routes.ITEMS_A_TURN


@pytest.fixture
def two_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "BATCH_LIMIT", 2)


@pytest.fixture
def owner_login(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        yield connection


FIVE = [keyed(create(name=name), name) for name in ("a", "b", "c", "trouble", "e", "f")]


@pytest.mark.usefixtures("two_a_transaction")
async def test_a_database_that_fails_in_the_middle_leaves_nothing_half_told(
    site: httpx.AsyncClient, engine: Engine, owner_login: psycopg.Connection
) -> None:
    refuse(owner_login, "operations", "INSERT", DISK_FAILS, "NEW.payload->>'name' = 'trouble'")
    told = await posted(site, *FIVE)
    assert statuses(told) == [202, 202, 503, 503, 503, 503]
    assert codes(told)[2:] == ["database_away"] * 4
    assert {item["retry_after"] for item in told["items"][2:]} == {5}
    assert names(engine) == ["a", "b"]
    allow(owner_login, "operations")
    again = await posted(site, *FIVE)
    assert statuses(again) == [202] * 6
    assert [item.get("idempotent_replayed") for item in again["items"]] == [True, True, None, None, None, None]
    assert names(engine) == ["a", "b", "c", "trouble", "e", "f"]


async def test_a_database_that_takes_nothing_is_the_problem_of_all(
    site: httpx.AsyncClient, engine: Engine, owner_login: psycopg.Connection
) -> None:
    refuse(owner_login, "operations", "INSERT", DISK_FAILS)
    answer = await site.post(BATCH, json={"items": [create(ram=8), *FIVE]})
    assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "database_away", "5")
    assert (journaled(engine), audited(engine)) == (0, [])


async def test_a_bug_that_one_item_meets_is_its_own(
    site: httpx.AsyncClient, engine: Engine, owner_login: psycopg.Connection
) -> None:
    refuse(owner_login, "operations", "INSERT", A_BUG, "NEW.payload->>'name' = 'trouble'")
    told = await posted(site, *FIVE)
    assert statuses(told) == [202, 202, 202, 500, 202, 202]
    assert "refused by the test" not in json.dumps(told)
    assert names(engine) == ["a", "b", "c", "e", "f"]


async def test_an_item_that_waits_for_a_lock_is_overtaken_by_none_after_it(
    site: httpx.AsyncClient, engine: Engine
) -> None:
    held = (await posted(site, create(order_id="h")))["items"][0]["vps"]["id"]
    with engine.begin() as holder:
        holder.execute(text("SELECT 1 FROM vps_queues WHERE vps_id = :id FOR UPDATE"), {"id": held})
        batch = asyncio.create_task(
            posted(site, create(name="before"), update(held), of_order("update", "h", status="stopped"), create())
        )
        await asyncio.to_thread(wait_until, lambda: "before" in names(engine), "the item before it to be journaled")
        assert journaled(engine) == 2
        assert not batch.done()
    assert statuses(await batch) == [202] * 4
    assert [row["payload"].get("status") for row in journal(engine, held)] == ["creating", "running", "stopped"]


# --- a batch is the same as its items one after the other

Item = tuple[str, dict[str, Any]]
ORDERS, KEYS = st.sampled_from([None, "o-1", "o-2"]), st.sampled_from([None, None, "k-1", "k-2", "not a key"])


@st.composite
def item(draw: st.DrawFn) -> dict[str, Any]:
    """A call, right or wrong. ``order_id`` and key are still without the example's number, ``id`` is an index."""
    action = draw(st.sampled_from(["create", "create", "update", "delete", "steal"]))
    vps: dict[str, Any] = {"order_id": draw(ORDERS)}
    if action == "create":
        vps |= create()["vps"] | {"user_id": draw(st.sampled_from([5, 6, 77])), "cpu": draw(st.sampled_from([4, 8, 0]))}
    else:
        vps |= {"id": draw(st.sampled_from([None, 0, 1])), "status": draw(st.sampled_from([None, "running", "error"]))}
    return {"action": action, "vps": vps, "idempotency_key": draw(KEYS)}


class Twin:
    """One panel, its journal, and names for its ids in the order in which they were met."""

    def __init__(self, site: httpx.AsyncClient, engine: Engine) -> None:
        self.site = site
        self.engine = engine
        self.ids: dict[int, str] = {}
        self.operations: dict[int, str] = {}
        self.known: list[int] = []

    async def prepare(self, number: int) -> None:
        """Two VPSes that the items may name, one of them of an order."""
        self.ids, self.operations, self.known = {}, {}, []
        with self.engine.connect() as connection:
            self.since = connection.scalar(text("SELECT coalesce(max(id), 0) FROM operations"))
            self.refused_since = connection.scalar(text("SELECT coalesce(max(id), 0) FROM refused_calls"))
        for order_id in (f"{number}-o-1", None):
            made = (await self.site.post("/api/vps/sync", json=create(order_id=order_id))).json()
            self.known.append(made["vps"]["id"])
            self.named(made)

    def item(self, number: int, given: dict[str, Any]) -> dict[str, Any]:
        """The item as this panel is sent it."""
        vps = dict(given["vps"])
        if vps.get("id") is not None:
            vps["id"] = self.known[vps["id"]]
        if vps["order_id"] is not None:
            vps["order_id"] = f"{number}-{vps['order_id']}"
        key = given["idempotency_key"]
        return given | {"vps": vps, "idempotency_key": key and f"{number}-{key}"}

    async def one_by_one(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each item by itself, told as a batch would tell it."""
        told = []
        for one in items:
            body = {name: value for name, value in one.items() if name != "idempotency_key"}
            headers = {} if one["idempotency_key"] is None else {"Idempotency-Key": one["idempotency_key"]}
            answer = await self.site.post("/api/vps/sync", json=body, headers=headers)
            result = {"http_status": answer.status_code, **answer.json()}
            if "Retry-After" in answer.headers:
                result["retry_after"] = int(answer.headers["Retry-After"])
            if "Idempotent-Replayed" in answer.headers:
                result["idempotent_replayed"] = True
            told.append(self.named(result))
        return told

    async def together(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self.named(one) for one in (await posted(self.site, *items))["items"]]

    def named(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result without times and request, its ids replaced by names."""
        result = {name: value for name, value in result.items() if name not in {"request_id", "instance"}}
        if "vps" in result:
            vps = {name: value for name, value in result["vps"].items() if name not in {"created_at", "updated_at"}}
            result["vps"] = vps | {"id": self.ids.setdefault(vps["id"], f"vps {len(self.ids)}")}
            operation = result["operation"]
            called = self.operations.setdefault(operation["id"], f"operation {len(self.operations)}")
            result["operation"] = {"called": called, "state": operation["state"]}
        for name in ("message", "detail"):
            if name in result:
                result[name] = re.sub(r"VPS (\d+)", lambda found: self.ids.get(int(found[1]), "?"), result[name])
        return result

    def written(self, number: int) -> list[Any]:
        """What stands in the journal and beside it."""
        with self.engine.connect() as connection:
            operations = connection.execute(
                text(
                    "SELECT id, action, vps_id, seq, payload, state, idempotency_key FROM operations"
                    " WHERE id > :since ORDER BY id"
                ),
                {"since": self.since},
            )
            written: list[Any] = [
                (self.operations.get(row.id), row.action, self.ids[row.vps_id], *row[3:]) for row in operations
            ]
            claims = text("SELECT order_id, vps_id FROM order_claims WHERE order_id LIKE :of ORDER BY order_id")
            found = connection.execute(claims, {"of": f"{number}-%"})
            written += [(row.order_id, self.ids[row.vps_id]) for row in found]
            refused = text("SELECT status_code, code FROM refused_calls WHERE id > :since")
            audited = connection.execute(refused, {"since": self.refused_since})
            written += sorted(map(tuple, audited))  # the edge's refusals are audited after the answer
        return written


@pytest.fixture
async def twins(
    app: FastAPI, site: httpx.AsyncClient, engine: Engine, databases: Databases, settings: Settings, secrets: Secrets
) -> AsyncIterator[tuple[Twin, Twin]]:
    other = databases.clone()
    other_engine = sync_engine(other.app_url, "panel-sync test twin")
    other_app = create_app(settings.model_copy(update=other.fields))
    for user_id in (5, 6):
        add_user(other_engine, user_id)
    async with (
        other_app.router.lifespan_context(other_app),
        calling(other_app, {"X-API-Key": secrets.sync}) as other_site,
    ):
        yield Twin(site, engine), Twin(other_site, other_engine)
    other_engine.dispose()
    databases.give_back(other)


NUMBERS = itertools.count()


@trying(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(items=st.lists(item(), min_size=1, max_size=9), limit=st.sampled_from([2, 128]))
async def test_a_batch_answers_and_journals_as_its_items_one_by_one(
    twins: tuple[Twin, Twin], monkeypatch: pytest.MonkeyPatch, items: list[dict[str, Any]], limit: int
) -> None:
    monkeypatch.setattr(accept, "BATCH_LIMIT", limit)
    number = next(NUMBERS)
    batching, calling_singly = twins
    for twin in twins:
        await twin.prepare(number)
    together = await batching.together([batching.item(number, one) for one in items])
    assert together == await calling_singly.one_by_one([calling_singly.item(number, one) for one in items])
    assert batching.written(number) == calling_singly.written(number)


async def test_deletes_named_both_ways_in_one_batch_are_one(site: httpx.AsyncClient, engine: Engine) -> None:
    vps_id = (await posted(site, create(order_id="d")))["items"][0]["vps"]["id"]
    told = await posted(site, delete(vps_id), of_order("delete", "d"), delete(vps_id))
    assert statuses(told) == [202, 200, 200]
    assert len({item["operation"]["id"] for item in told["items"]}) == 1
    assert [row["action"] for row in journal(engine, vps_id)] == ["create", "delete"]
