"""A panel without a database or a network: the production core between a memory and a ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self, cast

import pytest
from sqlalchemy import Engine

from domain.absences import Absence
from domain.changes import Change, Finding, plan_hash
from domain.guests import FingerprintState, Guest, GuestKey, PowerState
from domain.orders import OrderState
from domain.records import LinkState, Record
from domain.repair_policy.budget import BY_APPROVAL, Budget
from panel.journal.repairs import NotWritten, Written
from panel.records.projection import Row
from reconcile import apply as applying
from reconcile import confirming
from reconcile.confirming import Confirmer
from reconcile.decision import decide, gate, power
from reconcile.decision.cases import Policy, World
from tests.convergence.harness.ledger import Ledger
from tests.convergence.harness.memory import Memory, Seen
from tests.convergence.harness.shown import Shown, ShownCluster, ShownFeed
from tests.convergence.harness.truth import CLUSTERS, USERS, Call

POLICY = Policy()


@dataclass(slots=True)
class Planned:
    """A run between its plan and its writes."""

    at: datetime
    changes: tuple[Change, ...]
    confirmer: Confirmer


@dataclass(slots=True)
class PurePanel:
    """Observes, plans, gates and applies with the code of ``reconcile``. ``operator_looks``: what the gate held in
    the last run is approved in the next."""

    ledger: Ledger = field(default_factory=Ledger)
    memory: Memory = field(default_factory=Memory)
    findings: tuple[Finding, ...] = ()
    held: tuple[gate.Held, ...] = ()
    operator_looks: bool = False

    @property
    def rows(self) -> dict[int, Row]:
        return self.ledger.rows

    @property
    def approves(self) -> bool:
        return self.operator_looks

    def clock(self, now: datetime, minutes: float) -> datetime:
        return now + timedelta(minutes=minutes)

    def accept(self, call: Call, at: datetime, *, answered: bool) -> int | None:
        return self.ledger.accept(call, at, answered=answered)

    def apply_calls(self) -> None:
        self.ledger.apply_calls()
        for key in self.ledger.called:
            self.memory.doubt(key)
        self.ledger.called.clear()

    def restore(self, vps_id: int, at: datetime) -> None:
        self.ledger.restore(vps_id, at)
        row = self.ledger.rows[vps_id]
        if row["vmid"] is not None:
            self.memory.doubt(GuestKey(row["cluster"], row["vmid"]))

    def look(self, quiet: int) -> None:
        self.memory.acknowledged = quiet >= 2
        self.operator_looks = quiet >= 7

    def run(self, shown: Shown, now: datetime, between: Callable[[], None]) -> None:
        planned = self.plan(shown, now)
        between()
        self.apply(planned)

    def fast(self, shown: Shown, now: datetime) -> None:
        """Power and node of linked guests, by one list of each cluster."""
        seen = self._look(shown, now)
        self.memory.read_doubted(self._sources(shown).values(), seen, self.ledger.linked())
        world = World(now, clusters=frozenset(CLUSTERS), trusted=frozenset(seen.trusted))
        guests = {g.key: g for g in self.memory.shown_guests(seen)}
        pairs = [(r, guests[r.guest_key]) for r in self.ledger.records() if r.guest_key in guests]
        going = {o.order_id for o in self.memory.shown_orders() if o.state is not OrderState.ENDED}
        pairs = [(r, g) for r, g in pairs if r.order_id in going or not self._named(g.key, r.order_id)]
        drifted = [(r, g) for r, g in pairs if _drifted(r, g) and not _cloned(g, guests.values(), now)]
        plan = power.power_plan(drifted, world, POLICY)
        gated = gate.gate(plan, self.ledger.gate_context(now, frozenset(), frozenset()), Budget())
        engine = cast("Engine", _Beside(self, now))
        confirmer = Confirmer(engine, None, {}, frozenset(), frozenset(CLUSTERS))
        applying.apply_changes(engine, 1, 1, gated.allowed, confirmer)

    def _named(self, key: GuestKey, other_than: str | None) -> bool:
        """What ``panel.observations.identity_doubts.SOLD_ON`` asks."""
        claiming = (*self.memory.shown_orders(), *self.memory.missed_orders(_proven))
        named = (o for o in claiming if o.guest_key == key and o.order_id != other_than)
        return any(o.state is not OrderState.ENDED for o in named)

    def plan(self, shown: Shown, now: datetime) -> Planned:
        """Everything up to the first write."""
        memory, ledger, paused = self.memory, self.ledger, shown.paused
        seen, sources, feed = self._look(shown, now), self._sources(shown), None if paused.feed else ShownFeed(shown)
        live = [r for r in ledger.rows.values() if r["deleted_at"] is None]
        held_orders = {str(r["order_id"]) for r in live if r["order_id"] is not None}
        if feed is not None:
            memory.take_orders(feed, seen, held_orders, USERS, full=not shown.has("feed-delta"))
        memory.read_fingerprints(sources.values(), seen, ledger.linked())
        memory.note_moves(now, POLICY.proof_n)
        world = World(
            now,
            memory.shown_orders(),
            memory.shown_guests(seen),
            ledger.records(),
            dict(memory.gone_orders),
            dict(memory.gone_guests),
            frozenset(CLUSTERS),
            frozenset(seen.trusted),
            seen.orders_at,
            seen.previous_orders_at,
            seen.orders_read_before,
            sightings=memory.sightings(),
            unidentified=memory.unidentified(ledger.linked(), _proven),
            remembered=memory.remembered(seen),
            last_read=dict(memory.cluster_times),
            missed_orders=memory.missed_orders(_proven),
        )
        plan = paused.without_paused(decide.plan(world, POLICY))
        approved = [c for h in self.held for c in h.changes] if self.operator_looks else []
        gate_context = ledger.gate_context(
            now, frozenset(plan_hash((c,)) for c in approved), frozenset(h.scope for h in self.held)
        )
        gated = gate.gate(plan, gate_context, Budget())
        # What waits for a word of its own waits for good: what nothing proves, nobody here can know.
        sets = tuple(h for h in gated.held if not h.scope.startswith(BY_APPROVAL))
        held = [Finding("held", f"scope:{h.scope}", h.reason, "alarm") for h in sets]
        self.findings, self.held = (*plan.findings, *held), sets
        engine = cast("Engine", _Beside(self, now, shown.cut_off))
        confirmer = Confirmer(engine, feed, sources, frozenset(seen.complete), frozenset(CLUSTERS))
        return Planned(now, gated.allowed, confirmer)

    def _sources(self, shown: Shown) -> dict[str, ShownCluster]:
        return {c: ShownCluster(shown, c) for c in CLUSTERS if c not in shown.paused.clusters}

    def _look(self, shown: Shown, now: datetime) -> Seen:
        seen = Seen(now)
        for source in self._sources(shown).values():
            self.memory.take_cluster(source, source.read(), seen)
        return seen

    def apply(self, planned: Planned) -> None:
        """The writes of a planned run, each confirmed and compared just before."""
        try:
            outcome = applying.apply_changes(planned.confirmer.engine, 1, 1, planned.changes, planned.confirmer)
        except Killed:
            return
        self.findings += tuple(
            Finding("not-confirmed", c.subject, why, vps_id=c.record.id if c.record else None)
            for c, why in outcome.not_written
            if c.confirm
        )


def _proven(absence: Absence | None) -> bool:
    """Not a reference to the method: a test may break it."""
    return absence is not None and POLICY.proven(absence)


def _drifted(record: Record, guest: Guest) -> bool:
    """What ``panel.observations.power_drift.POWER_DRIFT`` selects."""
    return (
        record.live
        and record.link_state is LinkState.VERIFIED
        and not record.in_flight
        and record.order_state is not OrderState.PENDING
        and _known(record, guest)
        and guest.lock in (None, "suspended")
        and not guest.template
        and (guest.node != record.node or guest.power not in (PowerState.UNKNOWN, record.power_state))
    )


def _known(record: Record, guest: Guest) -> bool:
    return guest.fingerprint_state is FingerprintState.READ and guest.fingerprint == record.fingerprint


def _cloned(guest: Guest, guests: Iterable[Guest], now: datetime) -> bool:
    copied = guest.moving_since is not None and now - guest.moving_since >= POLICY.moving_for
    same = (g for g in guests if g.cluster == guest.cluster and g.fingerprint == guest.fingerprint and not g.template)
    return copied or any(g.key != guest.key for g in same)


class Killed(BaseException):
    """The worker's process ends here."""


class _Beside:
    """Stands where an Engine would: the control order comes from memory, and writes go to the ledger."""

    def __init__(self, panel: PurePanel, now: datetime, writes: int | None = None) -> None:
        self.panel, self.now, self.writes = panel, now, writes

    def connect(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _write(
    engine: Any, _run_id: int, _epoch: int, change: Change, _evidence: object, versions: Mapping[int, int]
) -> Written | NotWritten:
    if engine.writes is not None:
        if engine.writes == 0:
            raise Killed
        engine.writes -= 1
    panel: PurePanel = engine.panel
    return panel.ledger.write(engine.now, change, versions)


def _write_updates(
    engine: Any, run_id: int, epoch: int, updates: Sequence[tuple[Change, object]], versions: Mapping[int, int]
) -> list[Written | NotWritten]:
    return [_write(engine, run_id, epoch, change, evidence, versions) for change, evidence in updates]


def _control(connection: Any, *, other_than: str) -> str | None:
    panel: PurePanel = connection.panel
    return panel.memory.control_order(other_than)


class _Quiet:
    """No log lines of ten thousand worlds."""

    def info(self, *_: object, **__: object) -> None:
        return None

    warning = info


@contextmanager
def without_database() -> Iterator[None]:
    """Let ``reconcile.apply`` write to ledgers for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(applying, "write_repair", _write)
        patch.setattr(applying, "write_updates", _write_updates)
        patch.setattr(confirming, "control_order", _control)
        patch.setattr(applying, "log", _Quiet())
        yield
