"""Apply what the gate let through: confirm singly, then one compare-and-set write each. Stops when fenced."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from domain.changes import Change, Kind
from domain.failures import Failure, Interrupts, Stage, cause_of
from domain.guests import GuestKey, GuestType
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from domain.source_protocols import Found, Gone, GuestConfig, Lookup, Unclear
from panel.journal.repairs import NotWritten, Repair, Written, write_repair
from panel.observations.absences import control_order
from panel.operators.quarantine import own_refusal
from panel.runs.lease import FencedError
from reconcile.decision.drift_since import standing_since

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of the changes: counts by kind, short texts, why some were not written, what failed, and what is
    left to the next run because this one's time was over."""

    applied: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)
    not_written: list[tuple[Change, str]] = field(default_factory=list)
    written: list[Change] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    postponed: list[Change] = field(default_factory=list)
    fenced: bool = False

    def after(self, earlier: Outcome) -> Outcome:
        """Both together, in order."""
        return Outcome(
            earlier.applied + self.applied,
            [*earlier.texts, *self.texts],
            [*earlier.not_written, *self.not_written],
            [*earlier.written, *self.written],
            [*earlier.failures, *self.failures],
            [*earlier.postponed, *self.postponed],
            earlier.fenced or self.fenced,
        )


class OutOfTimeError(Exception):
    """The run's time is over: nothing more is confirmed or written in it."""


class LooksUp(Protocol):
    """A feed that can be asked for one order."""

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]: ...


class Confirms(Protocol):
    """A cluster that can be asked whether one guest is gone."""

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]: ...


class Confirming(Protocol):
    """Says why a change may not be made (None: it may), and what the look-ups said. May raise OutOfTimeError."""

    def hindrance(self, change: Change) -> tuple[str | None, dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Confirmer:
    """Looks up singly, just before a write, what the change rests on. Good for several threads."""

    engine: Engine
    feed: LooksUp | None
    sources: Mapping[str, Confirms]
    complete: frozenset[str]
    clusters: frozenset[str]
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def hindrance(self, change: Change) -> tuple[str | None, dict[str, Any]]:
        """(why the change may not be made, what the look-ups said)."""
        said: dict[str, Any] = {}
        for what in sorted(change.confirm):
            look_ups = {
                "claimant": self._claimant,
                "either": self._either,
                "guest": self._guest,
                "left": self._left,
                "order": self._order,
                "same": self._same,
            }
            why, answer = look_ups[what](change)
            said[f"confirmed_{what}"] = answer
            if why is not None:
                return why, said
        return None, said

    def _guest(self, change: Change) -> tuple[str | None, str]:
        record, key = change.record, change.guest_key
        if record is None or key is None or record.node is None or record.guest_type is None:
            return "the guest's last node is not known", "not asked"
        ended = change.order is not None and change.order.state is OrderState.ENDED
        if not ended and self.complete < self.clusters:
            return "not every cluster was read completely, and the order is not ended", "not asked"
        said = []
        for place in (key, *change.elsewhere):
            # Whoever stands at an address that a going order names: what is paid for is not missing.
            missing = change.values.get("missing_since") is not None and place == key
            # Nor can anybody be told from a machine that nobody ever identified.
            unknown = change.action == "delete" and record.link_state is not LinkState.VERIFIED
            why, answer = self._gone(record, place, anybody=missing or unknown)
            if why is not None:
                return why, answer
            said.append(answer)
        return None, "; ".join(said)

    def _left(self, change: Change) -> tuple[str | None, str]:
        """Whether the guest is not where the record has it any more: a copy elsewhere must not take its place."""
        record, key = change.record, change.record.guest_key if change.record else None
        if record is None or key is None:
            return "where the guest was is not known", "not asked"
        if key.cluster not in self.clusters:
            return None, "its cluster is not configured any more"
        return self._gone(record, key)

    def _either(self, change: Change) -> tuple[str | None, str]:
        """Whether of two records with a guest each one has lost it: else they are two machines."""
        why, answer = "neither record has a guest that could be looked for", "not asked"
        for record in (change.record, change.other):
            if record is None or record.guest_key is None:
                continue
            said = []
            for place in (record.guest_key, *(p for p in change.elsewhere if p != record.guest_key)):
                still, answer = self._gone(record, place)
                said.append(answer)
                if still is not None:
                    why = still
                    break
            else:
                return None, "; ".join(said)
        return why, answer

    def _same(self, change: Change) -> tuple[str | None, str]:
        """Whether the guest at the record's address is its own machine, by its configuration of just now."""
        record, key = change.record, change.guest_key
        source = self.sources.get(key.cluster) if key is not None else None
        if record is None or key is None or source is None or record.node is None or record.guest_type is None:
            return f"guest {key} cannot be asked now", "not asked"
        match source.confirm(record.node, record.guest_type, key.vmid):
            case Found(value=config) if config.fingerprint is not None and config.fingerprint == record.fingerprint:
                return None, f"guest {key} on {config.node} is {config.fingerprint}"
            case Found():
                return f"guest {key} is another machine by now", "another"
            case Gone(how=how):
                return f"guest {key} is gone by now", how
            case Unclear(why=why):
                return f"who guest {key} is could not be read: {why}", "unclear"

    def _gone(self, record: Record, key: GuestKey, *, anybody: bool = False) -> tuple[str | None, str]:
        """Whether the record's guest, or ``anybody``, is not at that address."""
        source = self.sources.get(key.cluster)
        if source is None:
            return f"cluster {key.cluster} cannot be asked now", "not asked"
        if record.node is None or record.guest_type is None:
            return "the guest's last node is not known", "not asked"
        match source.confirm(record.node, record.guest_type, key.vmid):
            case Found(value=config) if anybody:
                return f"a guest stands at {key}, on node {config.node}", "found"
            case Gone(how=how):
                return None, how
            case Found(value=config) if None not in (record.fingerprint, config.fingerprint) and (
                config.fingerprint != record.fingerprint
            ):
                return None, f"another guest stands at {key} on {config.node} now"
            case Found(value=config):
                return f"guest {key} is there after all, on node {config.node}", "found"
            case Unclear(why=why):
                return f"guest {key} could not be confirmed absent: {why}", "unclear"

    def _order(self, change: Change) -> tuple[str | None, str]:
        order_id = change.order.order_id if change.order else change.record.order_id if change.record else None
        found = self._look_up(order_id)
        match found:
            case None:
                return "there is no order to ask for", "not asked"
            case Gone(how=how) if _must_be_over(change):
                return None, how
            case Gone():
                return f"order {order_id} is gone by now", "gone"
            case Found(value=now) if _must_be_over(change):
                if now.state is OrderState.ENDED:
                    return None, f"order {order_id} is {now.status}"
                return f"order {order_id} is {now.status} after all", now.status
            case Found(value=now) if _owner_differs(change, now.owner):
                return f"order {order_id} does not say the same owner any more", "other owner"
            case Found(value=now) if _must_be_going(change) and now.state not in (
                OrderState.ACTIVE,
                OrderState.SUSPENDED,
            ):
                return f"order {order_id} is {now.status} by now", now.status
            case Found(value=now) if _names_another(change, now):
                return f"order {order_id} names another guest by now", "other guest"
            case Found(value=now) if _names_another_record(change, now):
                return f"order {order_id} names another VPS by now", "other VPS"
            case Found(value=now):
                return None, f"order {order_id} is {now.status}"
            case Unclear(why=why):
                return f"order {order_id} could not be confirmed: {why}", "unclear"

    def _claimant(self, change: Change) -> tuple[str | None, str]:
        """Whether the order that claims the record's guest goes on and names it."""
        order_id, key = change.claimant.order_id if change.claimant else None, change.guest_key
        match self._look_up(order_id):
            case Found(value=now) if now.guest_key == key and now.state in (OrderState.ACTIVE, OrderState.SUSPENDED):
                return None, f"order {order_id} is {now.status} and names {key}"
            case Found(value=now):
                return f"order {order_id} is {now.status} and names {now.guest_key or 'no guest'} by now", now.status
            case Gone(how=how):
                return f"order {order_id} is gone by now", how
            case Unclear(why=why):
                return f"order {order_id} could not be confirmed: {why}", "unclear"
            case None:
                return "there is no order to ask for", "not asked"

    def _look_up(self, order_id: str | None) -> Lookup[Order] | None:
        """What the feed says of one order; None where nobody can be asked."""
        if self.feed is None or order_id is None:
            return None
        # The process has few connections, and this takes one for a moment only.
        with self.one_at_a_time, self.engine.connect() as connection:
            control = control_order(connection, other_than=order_id)
        return self.feed.order(order_id, control)


def _must_be_over(change: Change) -> bool:
    """A record is deleted, or lets go of a machine that was sold on, only if its own order is over."""
    return change.action == "delete" or (change.action == "unlink" and "same" in change.confirm)


def _must_be_going(change: Change) -> bool:
    """A record is made, given another machine, and its machine called missing, only while it is paid for."""
    made_or_moved = change.action == "create" or change.kind is Kind.LINK
    return made_or_moved or change.values.get("missing_since") is not None


def _names_another(change: Change, now: Order) -> bool:
    """A record gets another machine only if its order names that very one; its first, unless it names another."""
    if change.kind is not Kind.LINK and (change.kind is not Kind.CREATE or change.guest is None):
        return False
    first = change.record is None or change.record.fingerprint is None
    named = change.guest_key if first and now.guest_key is None else now.guest_key
    return named != change.guest_key


def _names_another_record(change: Change, now: Order) -> bool:
    """Which of two records survives is the feed's word, if it has one."""
    return change.kind is Kind.MERGE and change.order is not None and now.panel_vps_id != change.order.panel_vps_id


def _owner_differs(change: Change, owner: str | None) -> bool:
    """A new owner needs a look-up that names it; elsewhere a look-up that names none contradicts nothing."""
    if change.order is None or (owner is None and change.kind is not Kind.OWNER):
        return False
    return owner != change.order.owner


def unconfirmed_last(changes: Iterable[Change], unconfirmed: Collection[str]) -> tuple[Change, ...]:
    """The plan's order, but for the subjects that earlier runs asked about in vain: those come last, so that a run
    whose time is short spends it on the others first."""
    return tuple(sorted(changes, key=lambda change: change.subject in unconfirmed))


REFUSALS = 3
"""So often in a row the database may refuse a repair before it is held back: once or twice it is mostly a race."""


def apply_changes(
    engine: Engine,
    run_id: int,
    epoch: int,
    changes: Iterable[Change],
    confirmer: Confirming,
    interrupts: Interrupts = (),
    until: float = math.inf,
) -> Outcome:
    """Write changes in order. A change that no longer fits, or that fails by itself, is left to the next run; a fenced
    run stops. What is wrong for everybody (the database is away, an exception of ``interrupts``) is raised.

    ``until`` (monotonic clock): no write begins later; what is left then is ``postponed``."""
    outcome, changes = Outcome(), tuple(changes)
    versions: dict[int, int] = {}  # several facts of one record in one run: each write raises its version
    unsure: set[int] = set()  # records whose link could not be written: what rests on it waits too
    for position, change in enumerate(changes):
        if change.record is not None and change.record.id in unsure:
            continue
        try:
            why, said = _in_time(confirmer, change, until)
            written = NotWritten(why) if why else write_repair(engine, run_id, epoch, _repair(change, said, versions))
        except FencedError as error:
            log.warning("run_fenced", run_id=run_id, error=str(error))
            outcome.fenced = True
            return outcome
        except OutOfTimeError:
            outcome.postponed += changes[position:]
            break
        except Exception as error:
            if (failure := _own_failure(change, error, interrupts)) is None:
                raise
            outcome.failures.append(failure)
            if change.record is not None:
                unsure.add(change.record.id)
            continue
        if isinstance(written, NotWritten):
            if why is None:
                log.info("repair_not_written", subject=change.subject, kind=change.kind.value, why=written.why)
            outcome.not_written.append((change, written.why))
            if written.refused:
                outcome.failures.append(Failure(change.subject, Stage.WRITE, written.why, REFUSALS))
            if change.record is not None and change.kind is Kind.LINK:
                unsure.add(change.record.id)
            continue
        _note(outcome, change, written, versions)
    return outcome


def _in_time(confirmer: Confirming, change: Change, until: float) -> tuple[str | None, dict[str, Any]]:
    if time.monotonic() >= until:
        raise OutOfTimeError
    return confirmer.hindrance(change)


def _own_failure(change: Change, error: Exception, interrupts: Interrupts) -> Failure | None:
    """The error as this change's own failure; None if it is everybody's."""
    if isinstance(error, (*interrupts, MemoryError)):
        return None
    if not isinstance(error, SQLAlchemyError):
        return Failure(change.subject, Stage.WRITE, cause_of(error))
    refusal = own_refusal(error)
    return Failure(change.subject, Stage.WRITE, *refusal) if refusal is not None else None


def _repair(change: Change, said: Mapping[str, Any], versions: Mapping[int, int]) -> Repair:
    values = dict(change.values)
    if change.action == "create":
        values |= {"link": dict(change.link), "facts": dict(change.facts)}
    record, other, since = change.record, change.other, standing_since(change)
    return Repair(
        change.action,
        change.source,
        change.reason,
        {"kind": change.kind.value, **({"since": since.isoformat()} if since else {}), **change.evidence, **said},
        values,
        record.id if record else None,
        versions.get(record.id, record.version) if record else None,
        other.id if other else None,
        versions.get(other.id, other.version) if other else None,
    )


def _note(outcome: Outcome, change: Change, written: Written, versions: dict[int, int]) -> None:
    for record in (change.record, change.other):
        if record is not None:
            versions[record.id] = versions.get(record.id, record.version) + 1
    outcome.applied[change.kind.value] += 1
    outcome.written.append(change)
    outcome.texts.append(f"vps={written.vps_id} {written.text}")
    log.info(
        "repaired",
        operation_id=written.operation_id,
        vps_id=written.vps_id,
        kind=change.kind.value,
        result=written.text,
        reason=change.reason,
    )
