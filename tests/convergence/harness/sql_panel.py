"""A panel on real PostgreSQL, with in-process sources: what a story is played on when the database must hold too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert, select, text, update

from domain.changes import Finding
from domain.guests import GuestKey
from domain.repair_policy.budget import Budget
from panel.journal import rows
from panel.journal.repairs import write_repair, write_updates
from panel.journal.writer import apply_operation
from panel.observations import absences as missed
from panel.observations import loaded_candidates
from panel.operators import pauses
from panel.runs import source_states
from panel.schema import tables
from reconcile import apply as applying
from reconcile import run as running
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from reconcile.observation.observe import Observed
from reconcile.run import Reconciler, run_fast, run_full
from tests.convergence.harness.panel import Killed
from tests.convergence.harness.shown import Shown, ShownCluster, ShownFeed
from tests.convergence.harness.truth import CLUSTERS, Call
from tests.support.bench import QUICK
from tests.support.fleets.cut_worlds import decided_as_in

WIDE = Budget(
    deletes_run=999, deletes_hour=999, deletes_day=999, deletes_node_min=999, deletes_user_min=999, creates_min=999,
    flips_min=999, owners_run=999, owners_day=999, merges_run=999, merges_day=999,
)  # fmt: skip
"""Budgets are the pure core's business; here nothing waits for an operator."""

PART = 24
"""A budget so small that most of a story is left to a later run."""

KEPT = {"users", "leases"}
"""What the customers of all stories and the epochs are in; every other table is emptied before a story."""


@dataclass(slots=True)
class SqlPanel:
    """Calls are journaled and applied by the real writer, runs are real full runs; the clock is the real one."""

    engine: Engine
    findings: tuple[Finding, ...] = ()
    compared: int = 0

    @property
    def rows(self) -> Mapping[int, Mapping[str, Any]]:
        with self.engine.connect() as connection:
            return {row.id: dict(row._mapping) for row in connection.execute(select(tables.vps))}

    @property
    def approves(self) -> bool:
        return True

    def clock(self, now: datetime, minutes: float) -> datetime:
        del now, minutes
        return datetime.now(UTC)

    def look(self, quiet: int) -> None:
        if quiet == 2:
            with self.engine.begin() as connection:
                for source in ("orders", *(f"proxmox:{c}" for c in CLUSTERS)):
                    source_states.remember_source(connection, source, acknowledged_at=rows.database_now(connection))

    def restore(self, vps_id: int, at: datetime) -> None:
        """Left to the pure core: here an operator has no part."""

    # --- calls

    def accept(self, call: Call, at: datetime, *, answered: bool) -> int | None:
        """Journal a call as the API does."""
        del at
        vps_queues, order_id = tables.vps_queues, call.payload.get("order_id")
        with self.engine.begin() as connection:
            if call.action == "create":
                vps_id = self._live_claim(connection, order_id)
                if vps_id is None:
                    vps_id = int(connection.scalar(text("SELECT nextval('vps_id_seq')")) or 0)
                    connection.execute(
                        insert(vps_queues).values(vps_id=vps_id, last_seq=1, queue_state="live", order_id=order_id)
                    )
                    operation_id = self._journal(connection, call, vps_id, 1)
                    if order_id is not None:
                        rows.claim_order(connection, order_id, vps_id, operation_id)
                if answered:
                    call.sale.panel_id = vps_id
                return vps_id
            if call.sale.panel_id is None:
                return None
            queue = self._lane(connection, call.sale.panel_id)
            if queue.queue_state == "deleted":
                return None
            queue_state = "deleted" if call.action == "delete" else "live"
            seq = queue.last_seq + 1
            connection.execute(
                update(vps_queues)
                .where(vps_queues.c.vps_id == queue.vps_id)
                .values(last_seq=seq, queue_state=queue_state)
            )
            self._journal(connection, call, queue.vps_id, seq)
            return int(queue.vps_id)

    def _live_claim(self, connection: Connection, order_id: str | None) -> int | None:
        order_claims = tables.order_claims
        claimed = connection.scalar(select(order_claims.c.vps_id).where(order_claims.c.order_id == order_id))
        if claimed is None:
            return None
        queue = self._lane(connection, claimed)
        return int(queue.vps_id) if queue.queue_state == "live" else None

    def _lane(self, connection: Connection, vps_id: int) -> Any:
        vps_queues = tables.vps_queues
        queue = connection.execute(select(vps_queues).where(vps_queues.c.vps_id == vps_id)).one()
        return queue if queue.merged_into is None else self._lane(connection, queue.merged_into)

    def _journal(self, connection: Connection, call: Call, vps_id: int, seq: int) -> int:
        operations = tables.operations
        values = {"kind": "sync", "action": call.action, "vps_id": vps_id, "seq": seq, "source": "sync"}
        statement = insert(operations).values(**values, payload=call.payload, state="queued")
        return int(connection.scalar(statement.returning(operations.c.id)) or 0)

    def apply_calls(self) -> None:
        """Apply what is queued, as workers would."""
        operations = tables.operations
        queued = select(operations.c.id).where(operations.c.state == "queued").order_by(operations.c.id)
        with self.engine.connect() as connection:
            waiting = [row.id for row in connection.execute(queued)]
        for operation_id in waiting:
            apply_operation(self.engine, operation_id)

    # --- runs

    def run(self, shown: Shown, now: datetime, between: Callable[[], None]) -> None:
        """One real run. ``between`` comes before its plan is written; one that finds another under way does nothing."""
        del now
        self._pause(shown)
        real_load, real_write = running.load_world, running.write_plan

        def write_plan(*arguments: Any) -> Any:
            between()
            return real_write(*arguments)

        def load(reconciler: Reconciler, connection: Connection, seen: Observed) -> Any:
            with connection.begin_nested() as once:
                part, _ = real_load(reconciler, connection, replace(seen, warnings=[], broken={}), budget=PART)
                once.rollback()
            world, counts = real_load(reconciler, connection, seen)
            decided_as_in(world, replace(part, now=world.now), QUICK)
            whole = everything(connection, world, seen)
            assert plan(world, QUICK) == plan(whole, QUICK), "the selection left something out"
            self.compared += 1
            return world, counts

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, "write_plan", write_plan)
            patch.setattr(running, "load_world", load)
            dying = Mortal(shown.cut_off)
            patch.setattr(applying, "write_repair", dying.around(write_repair))
            patch.setattr(applying, "write_updates", dying.around(write_updates))
            try:
                result = run_full(self._reconciler(shown), trigger="test")
            except Killed:
                return
        if result.plan is None:
            between()
            return
        missed = result.outcome.not_written if result.outcome is not None else []
        self.findings = (
            *result.plan.findings,
            *(Finding("not-confirmed", c.subject, w, vps_id=c.record.id if c.record else None)
              for c, w in missed if c.confirm),
        )  # fmt: skip

    def fast(self, shown: Shown, now: datetime) -> None:
        """One real run of the fast queue."""
        del now
        self._pause(shown)
        run_fast(self._reconciler(shown), trigger="test")

    def _reconciler(self, shown: Shown) -> Reconciler:
        return Reconciler(
            engine=self.engine,
            feed=ShownFeed(shown),
            sources=tuple(ShownCluster(shown, c) for c in CLUSTERS),
            policy=QUICK,
            budget=WIDE,
            shared_ids=False,
            sweep_interval=timedelta(days=1) if shown.has("feed-delta") else timedelta(0),
            users_interval=timedelta(days=1),
            first_run_asks=False,
        )

    def _pause(self, shown: Shown) -> None:
        """Pause, or resume, what operators would."""
        paused = shown.paused
        wanted = {*(pauses.CLUSTER + c for c in paused.clusters), *([pauses.FEED] if paused.feed else [])}
        with self.engine.begin() as connection:
            now = set(pauses.current_pauses(connection))
            for target in sorted(wanted - now):
                pauses.pause(connection, target, "a story says so", timedelta(hours=1), "a test")
            for target in sorted(now - wanted):
                pauses.resume(connection, target)


@dataclass(slots=True)
class Mortal:
    """A worker that dies after so many writes."""

    left: int | None

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The real write, until the worker dies."""

        def write(*arguments: Any) -> Any:
            if self.left is not None:
                if self.left == 0:
                    raise Killed
                self.left -= 1
            return real(*arguments)

        return write


def everything(connection: Connection, world: World, seen: Observed) -> World:
    """The world as it would be without any selection: every order, listed guest, record and absence."""
    orders = [loaded_candidates.order_of(row) for row in connection.execute(text(ALL_ORDERS))]
    guests = connection.execute(text(ALL_GUESTS))
    records = connection.execute(text(ALL_RECORDS))
    absences = connection.execute(text(missed.ABSENCES)).all()
    known = connection.execute(select(tables.guests)).all()
    sightings: dict[str, set[GuestKey]] = {}
    for row in known:
        forbidden = row.fingerprint_state == "forbidden"
        last = row.fingerprint or row.previous_fingerprint if forbidden else row.fingerprint
        if last is not None:
            sightings.setdefault(last, set()).add(GuestKey(row.cluster, row.vmid))
    counted = {a.subject: missed._absence(a) for a in absences}
    keys = {a.subject: GuestKey(a.subject.split("/")[0], int(a.subject.split("/")[1]))
            for a in absences if a.kind == "guest"}  # fmt: skip
    order_absences = {a.subject: counted[a.subject] for a in absences if a.kind == "order"}
    not_listed = [o for o in orders if o.order_id in order_absences]
    return replace(
        world,
        orders=tuple(o for o in orders if o.order_id not in order_absences),
        missed_orders=tuple(o for o in not_listed if not QUICK.proven(order_absences[o.order_id])),
        guests=tuple(loaded_candidates.guest_of(row, seen.previous, seen.began) for row in guests),
        records=tuple(loaded_candidates.record_of(row) for row in records),
        order_absences=order_absences,
        sightings={fingerprint: frozenset(at) for fingerprint, at in sightings.items()},
        guest_absences={key: counted[subject] for subject, key in keys.items()},
    )


ALL_ORDERS = (
    "SELECT o.*, u.id AS user_id, u.mapped_at, s.effective_at AS staged_at FROM orders_seen o"
    " LEFT JOIN users u ON u.main_site_user_id = o.owner LEFT JOIN stage_orders s ON s.order_id = o.order_id"
)
ALL_GUESTS = "SELECT g.* FROM guests g JOIN stage_guests s ON s.cluster = g.cluster AND s.vmid = g.vmid"
ALL_RECORDS = "SELECT r.*, l.applied_seq < l.last_seq AS in_flight FROM vps r JOIN vps_queues l ON l.vps_id = r.id"


@contextmanager
def emptied(owner: Engine, engine: Engine) -> Iterator[SqlPanel]:
    """A panel of its own for a story; its rows are thrown away before."""
    # Not TRUNCATE: new files for every table and index cost more than a story's few rows.
    with owner.begin() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            if table.name not in KEPT:
                connection.execute(table.delete())
    yield SqlPanel(engine)
