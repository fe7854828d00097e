"""Several API processes, and a database that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.deadlines import Deadlines
from panel.journal.accept import Acceptor
from panel.journal.calls import Accepted, DatabaseAwayError, OverloadedError, Refused, Replayed
from panel.journal.rows import lock_orders, lock_vps_queues
from panel.journal.writer import apply_operation
from panel.sessions import async_engine
from runtime.servers.embedded_postgres import EmbeddedPostgres
from tests.integration.panel.conftest import accepted, count
from tests.support.calls import create_call, delete_call, update_call
from tests.support.databases import PATIENT, Database
from tests.support.fleets.world import journal, vps_row
from tests.support.waiting import wait_until

pytestmark = pytest.mark.faults


@pytest.fixture
async def rival(panel: Engine, database: Database) -> AsyncIterator[Acceptor]:
    """A second API process' acceptor, with connections of its own."""
    engine = database.api_engine("panel-sync test rival", deadlines=PATIENT)
    made = Acceptor(engine, deadlines=PATIENT)
    await made.start()
    yield made
    await made.stop()
    await engine.dispose()


def lock_is_awaited(panel: Engine) -> bool:
    """Whether a transaction of the acceptor waits for a lock."""
    with panel.connect() as connection:
        waiting = connection.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'panel-sync test api' AND wait_event_type = 'Lock'"
            )
        )
    return bool(waiting)


async def test_two_processes_create_one_order_once(acceptor: Acceptor, rival: Acceptor, panel: Engine) -> None:
    orders = [f"o-{n}" for n in range(30)]
    outcomes = await asyncio.gather(
        *(one.accept(create_call(order_id=order)) for order in orders for one in (acceptor, rival))
    )
    pairs = list(zip(outcomes[::2], outcomes[1::2], strict=True))
    for first, second in pairs:
        assert isinstance(first, Accepted)
        assert isinstance(second, Accepted)
        assert first.vps_id == second.vps_id
        assert first.operation_id == second.operation_id
        assert first.created is not second.created
    assert count(panel, "operations") == count(panel, "order_claims") == len(orders)


async def test_two_processes_use_one_idempotency_key_once(acceptor: Acceptor, rival: Acceptor, panel: Engine) -> None:
    outcomes = await asyncio.gather(
        *(one.accept(create_call(key=f"k-{n}")) for n in range(20) for one in (acceptor, rival))
    )
    assert all(
        isinstance(o, Accepted | Replayed) or (isinstance(o, Refused) and o.status_code == 409) for o in outcomes
    )
    assert count(panel, "operations") == 20


async def test_two_processes_and_a_worker_never_deadlock_nor_skip(
    acceptor: Acceptor, rival: Acceptor, panel: Engine
) -> None:
    ids = [(await accepted(acceptor, create_call(name=f"vps-{n}"))).vps_id for n in range(8)]

    async def push(one: Acceptor, order: list[int]) -> None:
        for status in ("running", "stopped", "running", "suspended"):
            await asyncio.gather(*(accepted(one, update_call(vps_id, status)) for vps_id in order))

    async def work() -> None:
        for vps_id in ids:
            last = journal(panel, vps_id)[-1]["id"]
            await asyncio.to_thread(apply_operation, panel, last)

    await asyncio.gather(push(acceptor, ids), push(rival, ids[::-1]), work())
    for vps_id in ids:
        rows = journal(panel, vps_id)
        assert [row["seq"] for row in rows] == list(range(1, 10))
        apply_operation(panel, rows[-1]["id"])
        assert {row["state"] for row in journal(panel, vps_id)} == {"applied"}
        final = vps_row(panel, vps_id)
        assert final is not None
        assert final["status"] == "suspended"


async def test_a_full_queue_answers_at_once(panel: Engine, pool: AsyncEngine) -> None:
    stuck = Acceptor(pool, max_waiting=2)  # never started: what waits, waits
    waiting = [asyncio.create_task(stuck.accept(create_call())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await stuck.accept(create_call())
    await stuck.start()
    assert all(isinstance(one, Accepted) for one in await asyncio.gather(*waiting))
    await stuck.stop()


async def test_stop_answers_what_waits(panel: Engine, pool: AsyncEngine) -> None:
    one = Acceptor(pool, deadlines=PATIENT)
    await one.start()
    waiting = [asyncio.create_task(one.accept(create_call())) for _ in range(5)]
    await asyncio.sleep(0)
    await one.stop()
    assert all(isinstance(answer, Accepted) for answer in await asyncio.gather(*waiting))


async def test_a_caller_that_went_away_before_its_turn_is_not_accepted(acceptor: Acceptor, panel: Engine) -> None:
    gone = asyncio.create_task(acceptor.accept(create_call(name="gone")))
    await asyncio.sleep(0)
    gone.cancel()
    await accepted(acceptor, create_call(name="stays"))
    with panel.connect() as connection:
        names = connection.scalars(text("SELECT payload->>'name' FROM operations ORDER BY id")).all()
    assert names == ["stays"]


async def test_a_caller_that_went_away_during_the_commit_has_its_call_journaled(
    acceptor: Acceptor, panel: Engine
) -> None:
    created = await accepted(acceptor, create_call())
    with panel.begin() as held:
        held.execute(text("SELECT 1 FROM vps_queues WHERE vps_id = :id FOR UPDATE"), {"id": created.vps_id})
        gone = asyncio.create_task(acceptor.accept(update_call(created.vps_id)))
        await asyncio.to_thread(wait_until, lambda: lock_is_awaited(panel), "the batch to be under way")
        gone.cancel()
    await accepted(acceptor, update_call(created.vps_id, "stopped"))
    assert [row["payload"].get("status") for row in journal(panel, created.vps_id)] == [
        "creating",
        "running",
        "stopped",
    ]


@pytest.mark.own_sessions
async def test_without_postgres_nothing_is_accepted_and_afterwards_all_is_well(
    acceptor: Acceptor, panel: Engine, postgres_server: EmbeddedPostgres
) -> None:
    created = await accepted(acceptor, create_call())
    postgres_server.kill()
    outcomes = await asyncio.gather(
        *(acceptor.accept(update_call(created.vps_id)) for _ in range(3)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {DatabaseAwayError}
    postgres_server.start()
    await accepted(acceptor, delete_call(created.vps_id))
    assert [row["action"] for row in journal(panel, created.vps_id)] == ["create", "delete"]


async def test_idle_connections_that_were_cut_cost_no_call(panel: Engine, database: Database) -> None:
    """As by a restart of the server. The acceptor's connections are not asked before each commit whether they work."""
    engine = async_engine(database.app_url, "panel-sync test cut", deadlines=PATIENT, pre_ping=False)
    async with engine.connect() as one, engine.connect() as two:
        for connection in (one, two):
            await connection.execute(text("SELECT 1"))
    acceptor = Acceptor(engine, deadlines=PATIENT)
    await acceptor.start()
    cut = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'panel-sync test cut'"
    with panel.connect() as looking:
        assert looking.scalars(text(cut)).all() == [True, True]
    await accepted(acceptor, create_call())
    await acceptor.stop()
    await engine.dispose()
    assert count(panel, "operations") == 1


async def test_a_locked_row_is_an_absent_database_not_a_hanging_call(
    acceptor: Acceptor, pool: AsyncEngine, panel: Engine
) -> None:
    created = await accepted(acceptor, create_call())
    hasty = Acceptor(pool, deadlines=Deadlines(8.0))
    await hasty.start()
    with panel.begin() as connection:
        connection.execute(text("SELECT 1 FROM vps_queues WHERE vps_id = :id FOR UPDATE"), {"id": created.vps_id})
        with pytest.raises(DatabaseAwayError):
            await hasty.accept(update_call(created.vps_id))
    await hasty.stop()
    await accepted(acceptor, update_call(created.vps_id))


async def test_a_held_lane_keeps_nobody_else_waiting(acceptor: Acceptor, panel: Engine) -> None:
    """Calls for one VPS whose queue somebody holds wait apart; those of the same commit are answered."""
    held, free = [(await accepted(acceptor, create_call(name=name))).vps_id for name in ("held", "free")]
    with panel.begin() as connection:
        connection.execute(text("SELECT 1 FROM vps_queues WHERE vps_id = :id FOR UPDATE"), {"id": held})
        waiting = [asyncio.create_task(acceptor.accept(update_call(held))) for _ in range(3)]
        others = [update_call(free), create_call(name="new"), create_call(name="keyed", key="k"), update_call(4711)]
        outcomes = await asyncio.wait_for(asyncio.gather(*map(acceptor.accept, others)), 60.0)
        assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted, Accepted, Refused]
        assert not any(task.done() for task in waiting)
    assert {type(outcome) for outcome in await asyncio.gather(*waiting)} == {Accepted}
    assert [row["seq"] for row in journal(panel, held)] == [1, 2, 3, 4]


async def test_a_held_order_keeps_nobody_else_waiting(acceptor: Acceptor, panel: Engine) -> None:
    with panel.begin() as connection:
        lock_orders(connection, ["7041"])
        waiting = asyncio.create_task(acceptor.accept(create_call(order_id="7041")))
        other = await asyncio.wait_for(acceptor.accept(create_call(order_id="7042")), 60.0)
        assert isinstance(other, Accepted)
        assert not waiting.done()
    assert isinstance(await waiting, Accepted)


async def test_a_survivor_that_is_held_holds_whom_it_took_over(acceptor: Acceptor, panel: Engine) -> None:
    survivor, merged = [(await accepted(acceptor, create_call(name=name))).vps_id for name in ("one", "two")]
    with panel.begin() as connection:
        connection.execute(
            text("UPDATE vps_queues SET merged_into = :into, queue_state = 'deleted' WHERE vps_id = :id"),
            {"into": survivor, "id": merged},
        )
    with panel.begin() as connection:
        connection.execute(text("SELECT 1 FROM vps_queues WHERE vps_id = :id FOR UPDATE"), {"id": survivor})
        waiting = asyncio.create_task(acceptor.accept(update_call(merged)))
        await asyncio.wait_for(accepted(acceptor, create_call(name="new")), 60.0)
        assert not waiting.done()
    outcome = await waiting
    assert isinstance(outcome, Accepted)
    assert outcome.vps_id == survivor


@pytest.mark.parametrize("action", ["update", "delete"])
async def test_an_id_that_is_merged_while_a_call_waits_reaches_the_survivor(
    acceptor: Acceptor, panel: Engine, action: str
) -> None:
    """A run holds both queues and merges one VPS into the other, which the call did not name."""
    survivor, merged = [(await accepted(acceptor, create_call(name=name))).vps_id for name in ("one", "two")]
    for vps_id in (survivor, merged):
        apply_operation(panel, journal(panel, vps_id)[0]["id"])
    with panel.begin() as connection:
        lock_vps_queues(connection, [survivor, merged])
        call = update_call(merged) if action == "update" else delete_call(merged)
        waiting = asyncio.create_task(acceptor.accept(call))
        await asyncio.to_thread(wait_until, lambda: lock_is_awaited(panel), "the call to wait for the queue")
        connection.execute(
            text("UPDATE vps SET deleted_at = now(), deleted_reason = 'merged', merged_into = :into WHERE id = :id"),
            {"into": survivor, "id": merged},
        )
        connection.execute(
            text("UPDATE vps_queues SET merged_into = :into WHERE vps_id = :id"), {"into": survivor, "id": merged}
        )
    outcome = await waiting
    assert isinstance(outcome, Accepted)
    assert outcome.vps_id == survivor
    assert apply_operation(panel, outcome.operation_id).state == "applied"
