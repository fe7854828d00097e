"""Ten years of a hoster with churn: every table levels off, and nothing becomes dearer by what is over."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Row, text

from domain.power import conduct
from domain.power.actions import Action
from domain.statistics.measurements import Timeframe
from panel.adoptions import decisions
from panel.clients.sign_in_links import SignInLink, use_link
from panel.operators import audit
from panel.operators.approvals.deciding import decide_hold
from panel.operators.audit import Actor, Use
from panel.operators.holds import Decision
from panel.operators.pages import operator_sessions
from panel.operators.prune import prune
from panel.operators.repair_policy import what_ifs
from panel.power import progress
from panel.power.facts import PowerRules, Target, permitted
from panel.power.requests import Wanted, ask
from panel.schema import tables
from panel.sessions import sync_engine
from panel.statistics import requests as statistics
from panel.webhooks import deliveries, endpoint
from reconcile.observation import fingerprints
from reconcile.run import run_fast, run_full
from tests.support.databases import Database, Databases
from tests.support.fleets.grown import GROWN, explained, watched
from tests.support.fleets.hoster import CUSTOMERS, Hoster, versions

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3_600)]

YEARS = int(os.environ.get("SOAK_YEARS", "10"))
FLEET = int(os.environ.get("SOAK_FLEET", "200"))
CHURN = max(2, FLEET // 20)
"""Machines that are sold and ended each month: one in twenty."""
JOURNAL_DAYS = 400
LEVELS_OFF_AFTER = 36
"""Months: a machine's life here, and the journal's time after its end."""
KEPT_MONTHS = 3
"""How long guests, orders and findings are kept that are gone. After that a fleet of this churn has its usual size."""
FILLED = GROWN | {"operator_sessions"}
"""Tables that level off only because old rows go."""
A_RUN_S_OWN = {"runs", "snapshots", "scopes", "leases", "source_states"}


class Years:
    """Months of a hoster, each as busy as the one before."""

    def __init__(self, databases: Databases, database: Database) -> None:
        self.databases, self.database = databases, database
        self.engine = sync_engine(database.app_url, "panel-sync test", pool_size=2)
        self.owner = sync_engine(database.owner_url, "panel-sync test owner", statement_ms=120_000)
        self.hoster = Hoster(self.engine)
        self.going: list[str] = []
        self.ended: list[tuple[int, str]] = []
        self.counts: dict[str, list[int]] = defaultdict(list)
        self.month = 0

    def begin(self) -> None:
        with self.engine.begin() as connection:
            endpoint.switch(connection, wanted=True)
        self.hoster.open()
        self.going += self.hoster.sell(FLEET)
        self.hoster.full(3)
        assert self.live() == FLEET

    def empty(self) -> set[str]:
        """The tables whose growth would not be seen, because there was a month in which nothing was put into them."""
        return {table for table in FILLED if not min(self.counts[table])}

    def live(self) -> int:
        return self.hoster.count("vps", "deleted_at IS NULL")

    def go_on(self) -> None:
        """One month: customers come and go, people work, and at its end all that was is a month older."""
        self.month += 1
        hoster = self.hoster
        self.going += hoster.sell(CHURN)
        for number in range(CHURN - 1):
            order_id = self.going.pop(0)
            hoster.end(order_id, reuse=number % 2 == 0)
            self.ended.append((self.month, order_id))
        lost = self.going.pop(0)  # one that the main site forgets without a word
        hoster.end(lost)
        hoster.forget(lost)
        while self.ended and self.ended[0][0] < self.month - 2:
            hoster.forget(self.ended.pop(0)[1])
        for order_id in self.going[:CHURN]:
            hoster.flip(order_id)
        hoster.cluster.add(50_000 + self.month, "pve1")  # somebody's own, for this month
        hoster.cluster.guests.pop(50_000 + self.month - 1, None)
        hoster.full(2)
        hoster.fast()
        hoster.full()  # by now all is missed three times
        self._people()
        self._customers()
        prune(self.engine, JOURNAL_DAYS, self.hoster.reconciler().proof)
        assert self.live() == FLEET, f"month {self.month}"
        self._older()
        for table in tables.metadata.tables:
            self.counts[table].append(hoster.count(table))

    def _people(self) -> None:
        """What calls, keys and operators leave behind."""
        with self.engine.begin() as connection:
            audit.store_uses(connection, [(Use("api:ann", f"192.0.2.{self.month % 250}", "GET /api", 200, ""), 1, "r")])
            audit.note_actions(connection, Actor("api:ann", "operate"), "pause", ["all"])
            for statement in PEOPLE:
                connection.execute(text(statement), {"month": self.month})
            vps_id = connection.scalar(text("SELECT max(id) FROM vps WHERE deleted_at IS NULL"))
            plan_hash = f"{self.month:064x}"
            connection.execute(text(HELD), {"hash": plan_hash, "subject": f"vps:{vps_id}"})
            decide_hold(connection, plan_hash, Decision.REJECTED, "ann", above=None)
            operator_sessions.begin_session(connection, plan_hash, "ann")
            asked = what_ifs.ask_what_if(connection, {"orphan": "repair"}, "api:ann")
            what_ifs.keep_problem(connection, asked.id, "no sources")
            adoption = decisions.store(connection, ADOPTED, "api:ann")
            decisions.withdraw(connection, adoption.id, "a mistake", "api:ann")

    def _customers(self) -> None:
        """What customers leave behind, and what the main site was told of the month."""
        asyncio.run(self._signs_in())
        with self.engine.begin() as connection:
            row, target, stored = self._asks_for_a_stop(connection)
            taken = progress.take(connection, stored.id)
            assert taken is not None
            progress.end(connection, taken, conduct.not_told(), {})
            assert statistics.ask(connection, statistics.Wanted(row.id, row.user_id, Timeframe.HOUR), target) is None
            while (event := deliveries.take(connection)) is not None:
                deliveries.note_delivered(connection, event, 204)
            sent_on = {"tasks": [statistics.TASK, what_ifs.TASK]}  # by the relay
            connection.execute(text("DELETE FROM task_requests WHERE task = ANY(:tasks)"), sent_on)

    def _asks_for_a_stop(self, connection: Connection) -> tuple[Row[Any], Target, Row[Any]]:
        """The first customer who may stop a machine does. Returns the record, the machine and the action."""
        rules = PowerRules(
            frozenset({"main"}), "orders", shared_ids=False, proof=self.hoster.reconciler().proof, an_hour=9
        )
        for row in connection.execute(text("SELECT id, user_id FROM vps WHERE deleted_at IS NULL ORDER BY id")):
            target = permitted(connection, row.id, row.user_id, rules)
            if isinstance(target, Target):
                stored = ask(connection, Wanted(row.id, row.user_id, Action.STOP, force=False), rules)
                assert isinstance(stored, Row), stored
                return row, target, stored
        raise AssertionError("nobody may stop a machine")

    async def _signs_in(self) -> None:
        pool = self.database.api_engine("panel-sync test api", pool_size=1)
        user_id = 1 + self.month % CUSTOMERS
        link = SignInLink(user_id, f"user{user_id}", None, int(time.time()), f"{self.month:064x}")
        assert isinstance(await use_link(pool, link, "c", mapped=True), str)
        await pool.dispose()

    def _older(self) -> None:
        """Let a month pass: every moment that the database knows lies thirty days further back."""
        with self.owner.begin() as connection:
            for table in tables.metadata.sorted_tables:
                times = [c.name for c in table.columns if isinstance(c.type, type(tables.Time))]
                if times:
                    changes = ", ".join(f'"{c}" = "{c}" - interval \'30 days\'' for c in times)
                    connection.execute(text(f"UPDATE {table.name} SET {changes}"))
        with self.owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))

    def looked_at(self) -> dict[str, float]:
        """How many rows each of two runs looks at, in which nothing is to be done.

        A table of a few pages is read whole, whatever is in it. A hoster's tables are larger than these.
        """
        self.hoster.full()
        looked = {}
        with explained(self.databases, self.database, enable_seqscan="off"):
            for what, do in {"a fast run": run_fast, "a full run": run_full}.items():
                engine = sync_engine(self.database.app_url, "panel-sync test", pool_size=2)
                reconciler = self.hoster.reconciler()
                object.__setattr__(reconciler, "engine", engine)
                with watched() as plans:
                    assert do(reconciler, trigger="test").state == "done"
                engine.dispose()
                looked[what] = sum(sum(seen.rows.values()) for seen in plans.seen)
        return looked

    def sizes(self) -> dict[str, int]:
        """Bytes of every table with its indexes, without what updates left behind."""
        with self.owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM FULL"))
            found = {
                t: connection.scalar(text(f"SELECT pg_total_relation_size('{t}')")) for t in tables.metadata.tables
            }
        return {table: int(size or 0) for table, size in found.items()}

    def close(self) -> None:
        self.engine.dispose()
        self.owner.dispose()


PEOPLE = (
    "INSERT INTO refused_calls (status_code, code, message) SELECT 422, 'c', 'm' FROM generate_series(1, 20)",
    "INSERT INTO idempotency_keys (scope, key, body_hash, answer)"
    " SELECT 'main-site', CAST(:month AS text) || '-' || n, 'h', '{}' FROM generate_series(1, 20) n",
    # a create that died: its queue has no record
    "WITH queue AS (INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state)"
    " VALUES (nextval('vps_id_seq'), 1, 1, 'deleted') RETURNING vps_id)"
    " INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, applied_at)"
    " SELECT 'sync', 'create', vps_id, 1, 'sync', '{}', 'dead', clock_timestamp() FROM queue",
)
ADOPTED = {
    "cluster": "main", "vmid": 60_000, "guest_type": "qemu", "fingerprint": "smbios:own", "order_id": "own",
    "owner": "m1", "user_id": 1, "reason": "the old fleet", "evidence": [],
}  # fmt: skip
HELD = (
    "INSERT INTO holds (plan_hash, scope, reason, items, run_id)"
    " SELECT told.hash, 'by-approval:' || told.subject, 'r', jsonb_build_array(jsonb_build_object('subject',"
    " told.subject, 'kind', 'owner', 'action', 'update', 'hash', told.hash)), (SELECT max(id) FROM runs)"
    " FROM (SELECT CAST(:hash AS text) AS hash, CAST(:subject AS text) AS subject) AS told"
)


@pytest.fixture
def years(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Years]:
    monkeypatch.setattr(fingerprints, "PER_RUN", 1_000)
    database = databases.clone()
    made = Years(databases, database)
    yield made
    made.close()
    databases.drop(database)


def test_every_table_levels_off(years: Years, tmp_path: Path) -> None:
    years.begin()
    years.go_on()
    assert years.empty() == set()
    while years.month <= KEPT_MONTHS:
        years.go_on()
    at_first = years.looked_at()
    while years.month < 12 * YEARS // 2:
        years.go_on()
    half = years.sizes()
    while years.month < 12 * YEARS:
        years.go_on()
    whole, at_last = years.sizes(), years.looked_at()

    told = [
        f"{what} looked at {rows:.0f} rows in the fourth month, at {at_last[what]:.0f} in the last"
        for what, rows in at_first.items()
    ]
    grown = {}
    for table, counts in sorted(years.counts.items()):
        level, end = max(counts[LEVELS_OFF_AFTER : len(counts) * 3 // 4]), max(counts[len(counts) * 3 // 4 :])
        told.append(f"{table}: {level} rows, {end} at the end; {half[table]} bytes, {whole[table]} at the end")
        if end > level * 1.1 + 5:
            grown[table] = (level, end)
    (tmp_path / "ten_years.txt").write_text("\n".join(told))
    print("\n".join(told))  # noqa: T201 - what pytest shows with -rP, and where it fails
    assert years.empty() == set()
    assert grown == {}
    assert {t for t in whole if whole[t] > half[t] * 1.15 + 65_536} == set()
    assert {what for what, rows in at_first.items() if at_last[what] > 1.2 * rows} == set()
    _quiet(years.hoster, years.engine)


def _quiet(hoster: Hoster, engine: Engine) -> None:
    """A fleet of ten years in which nothing happens: nothing is written."""
    hoster.full(2)
    others = tuple(table for table in tables.metadata.tables if table not in A_RUN_S_OWN)
    before: Any = versions(engine, others)
    hoster.full(2)
    hoster.fast(2)
    after = versions(engine, others)
    assert {table for table in others if before[table] != after[table]} == set()
