"""``Prefer: wait``: the answer says what was written, if that happens in time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.dependencies import Edge
from tests.integration.api.conftest import Worker
from tests.integration.api.test_api_sync import CREATE, delete, update
from tests.support.fleets.world import journal
from tests.support.waiting import PATIENCE_S


async def _journaled(engine: Engine, count: int) -> int:
    """The id of the newest operation once there are so many."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with engine.connect() as connection:
                row = connection.execute(text("SELECT count(*) AS n, max(id) AS id FROM operations")).one()
            if row.n >= count:
                return int(row.id)
            await asyncio.sleep(0.01)


async def _wait_while_applied(
    site: httpx.AsyncClient, worker: Worker, body: dict[str, Any], count: int, **headers: str
) -> httpx.Response:
    async def apply() -> None:
        await asyncio.to_thread(worker.apply, await _journaled(worker.engine, count))

    answer, _ = await asyncio.gather(
        site.post("/api/vps/sync", json=body, headers={"Prefer": "wait=60", **headers}), apply()
    )
    return answer


async def test_the_life_of_a_vps_with_waiting(site: httpx.AsyncClient, worker: Worker) -> None:
    began = time.monotonic()
    created = await _wait_while_applied(site, worker, CREATE, 1)
    vps_id = created.json()["vps"]["id"]
    assert (created.status_code, created.json()["operation"]["state"]) == (201, "applied")
    assert created.json()["message"] == f"VPS {vps_id} was created"
    assert created.headers["Preference-Applied"] == "wait=60"
    updated = await _wait_while_applied(site, worker, update(vps_id), 2)
    assert (updated.status_code, updated.json()["vps"]["status"]) == (200, "running")
    deleted = await _wait_while_applied(site, worker, delete(vps_id), 3)
    assert (deleted.status_code, deleted.json()["message"]) == (200, f"VPS {vps_id} was deleted")
    assert time.monotonic() - began < 50, "told by notification, not by running into the wait"


async def test_what_is_not_written_in_time_is_202(site: httpx.AsyncClient) -> None:
    answer = await site.post("/api/vps/sync", json=CREATE, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["operation"]["state"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "wait=1"


async def test_the_wait_is_capped_and_echoed_as_it_was_capped(site: httpx.AsyncClient, worker: Worker) -> None:
    answer = await _wait_while_applied(site, worker, CREATE, 1, Prefer="respond-async, wait=600")
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (201, "wait=60")


async def test_without_the_preference_nobody_waits(site: httpx.AsyncClient) -> None:
    answer = await site.post("/api/vps/sync", json=CREATE)
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


async def test_nobody_waits_for_a_create_that_was_made_before(site: httpx.AsyncClient) -> None:
    body = {**CREATE, "vps": {**CREATE["vps"], "order_id": "7041"}}
    await site.post("/api/vps/sync", json=body)
    again = await site.post("/api/vps/sync", json=body, headers={"Prefer": "wait=60"})
    assert (again.status_code, again.json()["operation"]["state"]) == (200, "queued")
    assert "Preference-Applied" not in again.headers


async def test_a_retry_hears_what_the_waiting_call_heard(site: httpx.AsyncClient, worker: Worker) -> None:
    first = await _wait_while_applied(site, worker, CREATE, 1, **{"Idempotency-Key": "k1"})
    again = await site.post("/api/vps/sync", json=CREATE, headers={"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    ("state", "status_code", "code"),
    [("rejected", 409, "operation_rejected"), ("dead", 409, "operation_dead"), ("superseded", 200, None)],
)
async def test_an_operation_that_is_not_applied_tells_its_reason(
    site: httpx.AsyncClient, engine: Engine, state: str, status_code: int, code: str | None
) -> None:
    async def finish() -> None:
        operation_id = await _journaled(engine, 1)
        with engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE operations SET state = :state, applied_at = clock_timestamp(), reason = 'another was first'"
                    " WHERE id = :id"
                ),
                {"state": state, "id": operation_id},
            )
            connection.execute(text("SELECT pg_notify('panel_settled', :id)"), {"id": str(operation_id)})

    headers = {"Prefer": "wait=60", "Idempotency-Key": "k1"}
    answer, _ = await asyncio.gather(site.post("/api/vps/sync", json=CREATE, headers=headers), finish())
    said = answer.json()
    assert (answer.status_code, said.get("code"), said["operation"]["state"]) == (status_code, code, state)
    assert "another was first" in said["message"]
    again = await site.post("/api/vps/sync", json=CREATE, headers={"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()) == (answer.status_code, said)
    assert again.headers["Content-Type"] == answer.headers["Content-Type"]


async def test_many_wait_on_one_listening_connection(site: httpx.AsyncClient, worker: Worker, engine: Engine) -> None:
    async def apply_all() -> None:
        last = await _journaled(engine, 30)
        await asyncio.to_thread(worker.apply, *range(1, last + 1))

    posts = [site.post("/api/vps/sync", json=CREATE, headers={"Prefer": "wait=60"}) for _ in range(30)]
    *answers, _ = await asyncio.gather(*posts, apply_all())
    assert {a.status_code for a in answers if a} == {201}
    with engine.connect() as connection:
        listening = connection.scalar(
            text("SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'LISTEN %' AND datname = current_database()")
        )
    assert listening == 1


async def test_a_lost_listener_is_replaced_and_costs_a_poll_at_most(
    site: httpx.AsyncClient, worker: Worker, engine: Engine
) -> None:
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query ILIKE 'LISTEN %' AND datname = current_database()"
            )
        )
    began = time.monotonic()
    answer = await _wait_while_applied(site, worker, CREATE, 1)
    assert answer.status_code == 201
    assert time.monotonic() - began < 50, "it did not run into the wait"


async def test_the_poll_alone_is_enough(app: FastAPI, site: httpx.AsyncClient, worker: Worker, engine: Engine) -> None:
    """An operation that finished without any notification is noticed."""
    edge: Edge = app.state.edge

    async def finish_silently() -> None:
        operation_id = await _journaled(engine, 1)
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE operations SET state = 'applied', applied_at = clock_timestamp() WHERE id = :id"),
                {"id": operation_id},
            )

    answer, _ = await asyncio.gather(
        site.post("/api/vps/sync", json=CREATE, headers={"Prefer": "wait=60"}), finish_silently()
    )
    assert answer.status_code == 201
    assert edge.operation_waiter._waiting == {}, "nothing is kept of calls that were answered"
    assert journal(engine, answer.json()["vps"]["id"])[0]["state"] == "applied"
