"""Years of history cost nothing: no statement looks at rows of the past that it has no use for."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.health.doctor import examine
from cli.health.source_checks import check_believed
from domain.power import conduct
from domain.power.actions import Action, Before, Command
from domain.statistics.measurements import Timeframe
from panel.clients.client_sessions import end_session, session_of
from panel.clients.record_marks import record_marks
from panel.clients.round_trips import RoundTrips, client_reads
from panel.clients.sign_in_links import SignInLink, use_link
from panel.journal import rows as journal_rows
from panel.journal.accept import Acceptor
from panel.journal.call_sets import apply, loaded, written
from panel.journal.call_sets.apply import apply_calls
from panel.journal.calls import Accepted, Call, Refused
from panel.journal.publish import Doorbell
from panel.journal.relay import Relay
from panel.journal.writer import apply_operation
from panel.observations import candidates, components, left_out, loaded_candidates, snapshots
from panel.operators.prune import prune
from panel.power import due, progress
from panel.power.facts import PowerRules, Target, permitted
from panel.power.requests import Wanted, ask, open_action
from panel.power.views import client_actions, open_actions_query
from panel.records import reads
from panel.records.client_activity import activity_query
from panel.records.client_records import client_answers, client_record, records_query
from panel.records.maintenance import ANY_PAUSE, paused_among
from panel.schema import tables
from panel.sessions import sync_engine
from panel.settings import Settings
from panel.statistics import requests as statistics
from panel.webhooks import endpoint
from reconcile.decision.matching.match import RIVALS_APART
from reconcile.observation import fingerprints
from reconcile.run import rolling_read, run_full
from reconcile.users import import_users
from reconcile.vps_statistics import StatisticsReader
from tests.integration.panel.schema.operator_statements import (
    PROOF,
    adopt_guests,
    operators_day,
    send_events,
    typed_commands,
)
from tests.support.calls import create_call, delete_call, update_call
from tests.support.databases import PATIENT, Database, Databases
from tests.support.fleets import grown
from tests.support.fleets.grown import Plans
from tests.support.fleets.hoster import Hoster
from tests.support.fleets.one_customer import FLEET as MACHINES
from tests.support.fleets.world import add_user
from tests.support.stand_ins.measured_cluster import MeasuredCluster

pytestmark = pytest.mark.timeout(600)

FLEET = 40
BOUND = 2_500
"""Rows of one table that one statement may look at. The fleet and its customers are far fewer, the past is far more."""

SURELY_GENERIC = 8
"""Executions of a prepared statement after which PostgreSQL may have kept one plan for all values."""

A_ROW_FOR_EACH = {
    "duties",
    "scopes",
    "leases",
    "pauses",
    "quarantine",
    "task_requests",
    "service_levels",
    "source_states",
    "prunings",
    "ignored_guests",
    "operator_sessions",
    "webhook_endpoint",
}
"""Node, lease, source, task, class, decision that stands, operator, or the main site."""

OF_SETS = {
    "queued": loaded.QUEUED,
    "orders tried": loaded.TRY_ORDERS,
    "still queued": loaded.STILL_QUEUED,
    "holders": loaded.HOLDERS,
    "guests": loaded.HELD_GUESTS,
    "new records": written.INSERT_RECORDS,
    "changed records": written.UPDATE_RECORDS,
    "repaired records": journal_rows.UPDATE_RECORDS,
    "repaired queues": journal_rows.END_QUEUES,
    "ended": written.END_CALLS,
    "queues": written.ADVANCE_QUEUES,
    "claims": written.CLAIM_ORDERS,
    "singly": apply.RING_SINGLY,
}
"""Statements for many calls or repairs at once."""

LIVE = text("SELECT id, user_id FROM vps WHERE deleted_at IS NULL ORDER BY id")


class Published:
    def publish(self, bells: Sequence[Doorbell]) -> None:
        del bells

    def waiting(self, queue: str) -> int:
        del queue
        return 0


@pytest.fixture(scope="module")
def plans(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plans]:
    """Every statement that a day of a panel with a long past sends."""
    database = databases.clone()
    owner = sync_engine(database.owner_url, "panel-sync test owner", statement_ms=120_000)
    grown.grow(owner)
    with grown.explained(databases, database), grown.watched() as seen, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "PER_RUN", 1_000)
        engine = sync_engine(database.app_url, "panel-sync test", pool_size=2)
        asyncio.run(_a_day(database, engine))
        grown.grow_absences(owner)
        prune(engine, 400, PROOF)
        typed_commands(database, tmp_path_factory.mktemp("commands"))
        _doctor(database)
        engine.dispose()
    owner.dispose()
    yield seen
    databases.drop(database)


async def _a_day(database: Database, engine: Engine) -> None:
    """Customers buy, turn off and cancel; the main site calls; operators look at everything."""
    with engine.begin() as connection:
        endpoint.switch(connection, wanted=True)
    hoster = Hoster(engine)
    hoster.open()
    orders = hoster.sell(FLEET)
    for vmid in range(900, 905):
        hoster.cluster.add(vmid, "pve1")
    hoster.full(3)
    for order_id in orders[5:9]:
        hoster.flip(order_id)
    hoster.fast(2)
    for order_id in orders[:2]:
        hoster.end(order_id)
    hoster.full(6)
    assert hoster.count("vps", "deleted_at IS NULL") == FLEET - 2
    adopt_guests(hoster)
    hoster.sweep_interval = timedelta(hours=1)
    hoster.full()
    import_users(hoster.reconciler())
    _read_again(hoster)
    _power(engine)
    send_events(engine)

    pool = database.api_engine("panel-sync test api", pool_size=4)
    acceptor = Acceptor(pool, deadlines=PATIENT)
    await acceptor.start()
    made = []
    for number in range(4):
        call = create_call(user_id=5, name=f"called-{number}", order_id=f"c{number}", key=f"k{number}")
        outcome = await acceptor.accept(call)
        assert isinstance(outcome, Accepted)
        made.append(outcome)
        await acceptor.accept(call)
    assert isinstance(await acceptor.accept(update_call(999_999_999, "stopped")), Refused)
    relay = Relay(database.app_url, Published())
    relay.relay_once()
    for outcome in made[:3]:
        apply_operation(engine, outcome.operation_id)
    apply_operation(engine, made[3].operation_id, again=True)
    ended = delete_call(None, order_id="old5")
    for call in (update_call(made[0].vps_id, "stopped"), delete_call(made[1].vps_id), ended):
        outcome = await acceptor.accept(call)
        if isinstance(outcome, Accepted):
            apply_operation(engine, outcome.operation_id)
    await _sets_of_calls(acceptor, engine)
    await acceptor.accept(update_call(made[2].vps_id, "stopped"))
    await reads.operation(pool, made[0].operation_id)
    await reads.finished_among(pool, [o.operation_id for o in made])
    await reads.records_of_order(pool, "c0")
    await reads.records_named(pool, 5, "called-0")
    clients = client_reads(database.app_url, "panel-sync test client")
    await _a_client_reads(clients, made[0].vps_id)
    await _a_customer_looks(clients, pool, made[0].vps_id)
    await clients.dispose()
    await _statistics(engine, pool)
    await reads.database_health(pool)
    await acceptor.stop()
    await pool.dispose()
    relay._again_checked_at = -1_000.0
    for _ in range(2):
        relay.relay_once()
    relay.stop()
    operators_day(engine, made[1].vps_id, made[2].operation_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "BUDGET", 4)
        assert run_full(hoster.reconciler(), trigger="test").counts["cut"]
    hoster.full()
    hoster.fast()


async def _sets_of_calls(acceptor: Acceptor, engine: Engine) -> None:
    """A worker gets several calls with one message: of new records, of records with and without a past, of a machine
    that no record has, and of an order that another record held."""
    with engine.connect() as connection:
        known = [record.id for record in connection.execute(LIVE).all()[:4]]  # the fleet's

    async def accepted(calls: Sequence[Call]) -> list[Accepted]:
        outcomes = [await acceptor.accept(call) for call in calls]
        assert all(isinstance(outcome, Accepted) for outcome in outcomes), outcomes
        return [outcome for outcome in outcomes if isinstance(outcome, Accepted)]

    def apply_all(calls: Sequence[Accepted], *, again: bool = False) -> str:
        return apply_calls(engine, [call.operation_id for call in calls], again=again)

    orders = ("set0", "set1", "old7", None, None, None)
    guests: list[dict[str, Any]] = [{"cluster": "main", "node": "pve1", "vmid": 902 + n} for n in range(3)]
    plans = [{"name": f"set-{n}", "order_id": order_id} for n, order_id in enumerate(orders)]
    plans[0] |= guests[0]
    plans[3] |= guests[1]
    creates = await accepted([create_call(user_id=5, key=f"set{n}", **plan) for n, plan in enumerate(plans)])
    assert apply_all(creates) == "6 applied"
    updates = [update_call(vps_id, "stopped") for vps_id in known]
    updates += [
        update_call(creates[3].vps_id, order_id="set3"),
        update_call(creates[4].vps_id, order_id="set4", **guests[2]),
    ]
    deletes = [delete_call(None, order_id="set1"), delete_call(creates[5].vps_id)]
    assert apply_all(await accepted([*updates, *deletes])) == "8 applied"
    killed = await accepted([update_call(vps_id, "running") for vps_id in known[:2]])
    assert "2 calls" in apply_all(killed, again=True)
    assert apply_all(killed) == "2 applied", "one by one"


def _read_again(hoster: Hoster) -> None:
    """Between runs a part of the fleet is read again, here what was read half an hour ago."""
    with hoster.engine.begin() as connection:
        connection.execute(text("UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '30 minutes'"))
    assert rolling_read(hoster.reconciler())


def _doctor(database: Database) -> None:
    """What an operator types first when something seems wrong. No scheduler runs here, and there is no broker."""
    settings = Settings(_env_file=None, database_url=database.app_url)
    checks = [*examine(settings), *check_believed(settings)]
    assert {"journal", "beat", "relay", "sources"} <= {check.subject for check in checks}


async def _a_client_reads(clients: RoundTrips, vps_id: int) -> None:
    for _ in range(SURELY_GENERIC):
        for search in ("", "called"):
            query = records_query(5, search=search, limit=50)
            assert (await clients.rows_as_client(5, query))[0]
        assert (await client_answers(clients, 5, limit=50)).records
        assert await client_record(clients, 5, vps_id)
        await client_actions(clients, 5, vps_id)
        await client_actions(clients, 5, vps_id, 1)
        await clients.rows_as_client(5, open_actions_query(5), before=[ANY_PAUSE])


async def _a_customer_looks(clients: RoundTrips, pool: AsyncEngine, vps_id: int) -> None:
    link = SignInLink(5, "user5", None, int(time.time()), "5" * 64)
    token = await use_link(pool, link, "c", mapped=True)
    assert isinstance(token, str)
    assert await session_of(clients, pool, token)
    for _ in range(SURELY_GENERIC):
        assert (await clients.rows_as_client(5, activity_query(vps_id, limit=30)))[0]
    assert await record_marks(pool, [5, 6])
    assert await paused_among(pool, [vps_id]) == frozenset()
    await end_session(pool, token)


def _power(engine: Engine) -> None:
    """A customer asks for an action; the relay publishes it, and a worker takes it up and ends it."""
    rules = PowerRules(frozenset({"main"}), feed="orders", shared_ids=False, proof=PROOF, an_hour=1_000)
    with engine.begin() as connection:
        records = connection.execute(LIVE).all()
        wanted = (Wanted(row.id, row.user_id, Action.STOP, force=False) for row in records)
        stored = next(row for one in wanted if isinstance(row := ask(connection, one, rules), Row))
        assert open_action(connection, stored.vps_id, stored.user_id) == stored
        assert [row.id for row in due.claim_due(connection)] == [stored.id]
        assert due.end_given_up(connection) == []
        taken = progress.take(connection, stored.id)
        assert taken is not None
        progress.note_sending(connection, taken, Command.SHUTDOWN, "pve1", Before("running", 1, 1, frozenset()))
        progress.end(connection, replace(taken, begun=True), conduct.not_told(), {})


async def _statistics(engine: Engine, pool: AsyncEngine) -> None:
    """A customer looks at statistics, and a worker reads them."""
    rules = PowerRules(frozenset({"main"}), feed="orders", shared_ids=False, proof=PROOF, an_hour=1_000)
    with engine.begin() as connection:
        records = connection.execute(LIVE).all()
        machines = ((row, permitted(connection, row.id, row.user_id, rules)) for row in records)
        row, target = next((row, target) for row, target in machines if isinstance(target, Target))
        looked_at = statistics.Wanted(row.id, row.user_id, Timeframe.HOUR)
        assert statistics.ask(connection, looked_at, target) is None
    assert (await statistics.kept_statistics(pool, looked_at)).waits
    with engine.connect() as connection:
        row_id = connection.scalar(text("SELECT subject FROM task_requests WHERE task = :t"), {"t": statistics.TASK})
    assert StatisticsReader(engine, {"main": MeasuredCluster()}.get, rules).read(int(row_id or 0)) == "read"
    assert (await statistics.kept_statistics(pool, looked_at)).fresh


def test_every_table_that_grows_has_a_past(plans: Plans) -> None:
    del plans
    assert set(tables.metadata.tables) == grown.GROWN | grown.FOLLOWS_THE_FLEET | A_ROW_FOR_EACH


def test_no_statement_looks_at_the_past(plans: Plans) -> None:
    assert len(plans.seen) > 500
    worst: dict[tuple[str, str], float] = {}
    for looked in plans.seen:
        for table, rows in looked.rows.items():
            if rows > BOUND:
                key = (table, looked.statement[:300])
                worst[key] = max(worst.get(key, 0), rows)
    told = [f"{rows:9.0f} of {table}: {statement}" for (table, statement), rows in sorted(worst.items())]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("sent", OF_SETS)
def test_sets_of_calls_and_of_repairs_are_among_them(plans: Plans, sent: str) -> None:
    """They ran for several records: of one alone, a plan says little."""
    statement = _without_values(str(OF_SETS[sent]))
    found = [looked for looked in plans.seen if _without_values(looked.statement) == statement]
    assert found, statement
    assert max(_most_rows(looked.plan) for looked in found) > 1


def _most_rows(node: dict[str, Any]) -> float:
    made: float = node["Actual Rows"] * node["Actual Loops"]
    return max([made, *(_most_rows(child) for child in node.get("Plans", ()))])


def _without_values(statement: str) -> str:
    return re.sub(r"(?<!:):\w+|\$\d+", "?", " ".join(statement.split()))


@pytest.mark.parametrize("known", [None, 5], ids=["nothing", "what was true long ago"])
def test_selection_takes_each_row_a_few_times_whatever_the_planner_knows(
    databases: Databases, known: int | None
) -> None:
    """Of tables that were filled just now, or restored, PostgreSQL knows nothing, or what was true before. One customer
    has all the machines: what is joined by customer is joined with each."""
    many, loose = 1_800, 200
    database = databases.clone()
    owner = sync_engine(database.owner_url, "panel-sync test owner")
    add_user(owner, 5, main_site_user_id="77")
    with owner.begin() as connection:
        for table in ("vps", "vps_queues", "orders_seen", "guests"):
            connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
        for count in (known, many):
            if count is not None:
                for table in ("vps", "vps_queues", "orders_seen", "guests"):
                    connection.execute(text(f"DELETE FROM {table}"))
                for statement in MACHINES[:-1]:
                    connection.execute(text(statement), {"converged": count, "all": count + loose})
            if count == known:
                connection.execute(text("ANALYZE vps, vps_queues, orders_seen, guests"))
    with grown.explained(databases, database), grown.watched() as seen:
        engine = sync_engine(database.app_url, "panel-sync test")
        with engine.connect() as connection:
            snapshots.make_stages(connection)
            connection.execute(text(MACHINES[-1]))
            connection.execute(text("ANALYZE stage_guests"))
            counts = candidates.select_candidates(connection, shared_ids=False, names=True, proof=PROOF, budget=loose)
            left_out.load_left_out(connection, RIVALS_APART)
            loaded_candidates.load_orders(connection)
            loaded_candidates.load_records(connection)
            connection.rollback()
        engine.dispose()
    owner.dispose()
    databases.drop(database)
    assert counts["settled"] == many
    assert counts["cut"]
    told = [
        f"{rows:9.0f} of {table}: {looked.statement[:300]}"
        for looked in seen.seen
        for table, rows in (*looked.rows.items(), *looked.entries.items())
        if rows > 5 * (many + loose)
    ]
    assert not told, "\n".join(told)
