"""Years of history cost nothing: no statement looks at rows of the past that it has no use for."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.main import main
from domain.power import conduct
from domain.power.actions import Action, Before, Command
from panel.clients.client_sessions import end_session, session_of
from panel.clients.record_marks import record_marks
from panel.clients.sign_in_links import SignInLink, use_link
from panel.journal import dead_letters
from panel.journal.accept import Acceptor
from panel.journal.calls import Accepted
from panel.journal.relay import Doorbell, Relay
from panel.journal.restore import restore_vps
from panel.journal.writer import apply_operation
from panel.observations import candidates, components, left_out, loaded_candidates, snapshots
from panel.observations.proof import Proof
from panel.operators import audit, findings, holds, metrics, pauses, quarantine
from panel.operators.audit import Use
from panel.operators.pages.overview import overview
from panel.operators.pages.vps_view import vps_view
from panel.operators.prune import prune
from panel.power import due, progress
from panel.power.facts import PowerRules
from panel.power.requests import Wanted, ask, open_action
from panel.power.views import client_actions
from panel.records import history as histories
from panel.records import reads
from panel.records.client_activity import client_activity
from panel.runs.source_states import list_sources
from panel.schema import tables
from panel.sessions import async_engine, sync_engine
from reconcile.decision.matching.match import RIVALS_APART
from reconcile.observation import fingerprints
from reconcile.run import run_full
from reconcile.users import import_users
from tests.support.calls import create_call, delete_call, update_call
from tests.support.databases import Database, Databases
from tests.support.fleets import grown
from tests.support.fleets.grown import Plans
from tests.support.fleets.hoster import Hoster
from tests.support.fleets.one_customer import FLEET as MACHINES
from tests.support.fleets.world import add_user
from tests.support.keys import random_key
from tests.support.logs import logging_of_its_own

pytestmark = pytest.mark.timeout(600)

FLEET = 40
BOUND = 2_500
"""Rows of one table that one statement may look at. The fleet and its customers are far fewer, the past is far more."""


A_ROW_FOR_EACH = {
    "duties",
    "scopes",
    "leases",
    "pauses",
    "quarantine",
    "task_requests",
    "source_states",
    "prunings",
    "ignored_guests",
    "operator_sessions",
}
"""Node, lease, source, task, decision that stands, or operator."""

PROOF = Proof(3, timedelta(minutes=10))


class Published:
    def publish(self, bells: Sequence[Doorbell]) -> None:
        del bells

    def waiting(self) -> int:
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
        _commands(database, tmp_path_factory.mktemp("commands"))
        engine.dispose()
    owner.dispose()
    yield seen
    databases.drop(database)


async def _a_day(database: Database, engine: Engine) -> None:
    """Customers buy, turn off and cancel; the main site calls; operators look at everything."""
    hoster = Hoster(engine)
    hoster.open()
    orders = hoster.sell(FLEET)
    for vmid in range(900, 905):
        hoster.cluster.add(vmid, "pve1")
    hoster.full(3)
    hoster.flip(orders[5])
    hoster.fast(2)
    for order_id in orders[:2]:
        hoster.end(order_id)
    hoster.full(6)
    assert hoster.count("vps", "deleted_at IS NULL") == FLEET - 2
    hoster.sweep_interval = timedelta(hours=1)
    hoster.full()
    import_users(hoster.reconciler())
    _power(engine)

    pool = async_engine(database.app_url, "panel-sync test api", pool_size=4)
    acceptor = Acceptor(pool)
    await acceptor.start()
    made = []
    for number in range(4):
        call = create_call(user_id=5, name=f"called-{number}", order_id=f"c{number}", key=f"k{number}")
        outcome = await acceptor.accept(call)
        assert isinstance(outcome, Accepted)
        made.append(outcome)
        await acceptor.accept(call)
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
    await acceptor.accept(update_call(made[2].vps_id, "stopped"))
    await reads.operation(pool, made[0].operation_id)
    await reads.finished_among(pool, [o.operation_id for o in made])
    await reads.records_of_order(pool, "c0")
    await reads.records_named(pool, 5, "called-0")
    await reads.client_records(pool, 5, limit=50)
    await reads.client_records(pool, 5, search="called", limit=50)
    await reads.client_record(pool, 5, made[0].vps_id)
    await _a_customer_looks(pool, made[0].vps_id)
    await client_actions(pool, 5, made[0].vps_id)
    await client_actions(pool, 5, made[0].vps_id, 1)
    await reads.database_health(pool)
    await acceptor.stop()
    await pool.dispose()
    relay._again_checked_at = -1_000.0
    for _ in range(2):
        relay.relay_once()
    relay.stop()
    _operators(engine, made[1].vps_id, made[2].operation_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "BUDGET", 4)
        assert run_full(hoster.reconciler(), trigger="test").counts["cut"]
    hoster.full()
    hoster.fast()


async def _a_customer_looks(pool: AsyncEngine, vps_id: int) -> None:
    link = SignInLink(5, "user5", None, int(time.time()), "5" * 64)
    token = await use_link(pool, link, "c", mapped=True)
    assert isinstance(token, str)
    assert await session_of(pool, token)
    assert await client_activity(pool, 5, vps_id, limit=30)
    assert await record_marks(pool, [5, 6])
    await end_session(pool, token)


def _power(engine: Engine) -> None:
    """A customer asks for an action; the relay publishes it, and a worker takes it up and ends it."""
    rules = PowerRules(frozenset({"main"}), feed="orders", shared_ids=False, proof=PROOF, an_hour=1_000)
    with engine.begin() as connection:
        records = connection.execute(text("SELECT id, user_id FROM vps WHERE deleted_at IS NULL ORDER BY id")).all()
        wanted = (Wanted(row.id, row.user_id, Action.STOP, force=False) for row in records)
        stored = next(row for one in wanted if isinstance(row := ask(connection, one, rules), Row))
        assert open_action(connection, stored.vps_id, stored.user_id) == stored
        assert due.claim_due(connection) == [stored.id]
        assert due.end_given_up(connection) == []
        taken = progress.take(connection, stored.id)
        assert taken is not None
        progress.note_sending(connection, taken, Command.SHUTDOWN, "pve1", Before("running", 1, 1, frozenset()))
        progress.end(connection, replace(taken, begun=True), conduct.not_told(), {})


def _operators(engine: Engine, deleted: int, operation_id: int) -> None:
    with engine.begin() as connection:
        restore_vps(connection, deleted, "it was a mistake", "ann")
        metrics.metrics(connection)
        overview(connection)
        vps_view(connection, deleted, proof=PROOF, names=True, shared_ids=False)
        for everything in (False, True):
            listed = findings.list_findings(connection, everything=everything)
            holds.list_holds(connection, decided=everything)
            audit.list_access(connection, 50, refused=everything)
        findings.acknowledge_finding(connection, listed[0].id, "ann")
        findings.snooze_finding(connection, listed[0].id, timedelta(hours=1), "ann")
        findings.unsent_alarms(connection)
        dead_letters.list_dead(connection)
        quarantine.list_quarantined(connection)
        pauses.current_pauses(connection)
        histories.vps_history(connection, deleted)
        for kind in (None, "full", "plan"):
            histories.recent_runs(connection, kind=kind)
        list_sources(connection)
        audit.note_actions(connection, audit.Actor("api:ann", "operate"), "pause", ["all"])
        audit.store_uses(connection, [(Use("api:ann", "192.0.2.1", "GET /api", 200, ""), 1, "r")])
        audit.list_actions(connection, 50)
        audit.list_refused_calls(connection, 50)


LISTS = (
    ("operations",), *(("operations", "--state", s) for s in ("queued", "applied", "superseded", "rejected", "dead")),
    ("operations", "--vps", "1000005"), ("vps", "history", "1000005"), ("runs",), ("runs", "--kind", "plan"),
    ("power",), ("power", "--all"), ("power", "--vps", "1000005"),
    ("audit",), ("audit", "--refused"), ("sources",), ("held",), ("quarantined",), ("findings",), ("users", "list"),
)  # fmt: skip


def _commands(database: Database, directory: Path) -> None:
    """What people type, in this process."""
    settings = {
        "DATABASE_URL": database.app_url, "VPS_SYNC_API_KEY": random_key(), "OPS_API_KEY": random_key(),
        "JWT_SECRET": random_key(), "PANEL_DATA_DIR": str(directory),
    }  # fmt: skip
    for command in LISTS:
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in settings.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["panel-sync", *command])
            with pytest.raises(SystemExit) as ended, logging_of_its_own():
                main()
        assert not ended.value.code, command


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
