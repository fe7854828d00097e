"""Write the reconciler's changes: compare-and-set on the record's version, fenced by the run's epoch.

Nothing here decides. A change that no longer fits (the record changed, a sync call came in, another run took
the lease) is not written; the next run looks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, text, update
from sqlalchemy.exc import DataError, IntegrityError

from domain.changes import Change, Create, Delete, Merge, Unlink, Update
from domain.orders import Order
from domain.record_columns import Facts, in_group, names
from domain.records import Record
from panel.journal import rows
from panel.observations.identity_doubts import SOLD_ON
from panel.records.projection import LINK_COLUMNS, Row, release_address, repaired_row, with_status
from panel.runs.lease import hold_lease
from panel.schema import tables

NO_VERSIONS: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Written:
    """A change that was committed. ``text`` is the short result ("running -> stopped")."""

    operation_id: int
    vps_id: int
    text: str


@dataclass(frozen=True, slots=True)
class NotWritten:
    """A change that no longer fits; ``why`` is a sentence. ``refused``: the database would not take it, which may
    well be so the next time."""

    why: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class _Run:
    """Who writes, and why. ``versions``: as for ``write_repair``."""

    connection: Connection
    id: int
    epoch: int
    evidence: Mapping[str, Any]
    versions: Mapping[int, int]

    def settled(self, record: Record) -> tuple[Row, Row] | NotWritten:
        """The queue and the record, locked, if they are as they were decided on."""
        return _settled(self.connection, record.id, self.versions.get(record.id, record.version))


def write_repair(
    engine: Engine,
    run_id: int,
    epoch: int,
    change: Change,
    evidence: Mapping[str, Any],
    versions: Mapping[int, int] = NO_VERSIONS,
) -> Written | NotWritten:
    """Write one change in one transaction. ``evidence``: what the journal keeps of why. ``versions``: of records that
    this run has changed already, the version that they have now. Raises FencedError when the run's lease is gone."""
    try:
        with engine.begin() as connection:
            hold_lease(connection, epoch)
            run = _Run(connection, run_id, epoch, evidence, versions)
            match change:
                case Create():
                    return _create(run, change)
                case Merge():
                    return _merge(run, change)
                case Update() | Unlink() | Delete():
                    return _change(run, change)
            raise TypeError(f"nobody knows how to write {change!r}")
    except DataError as error:  # one record that the database will not take must not end the run for all others
        return NotWritten(
            f"the database refuses the values (SQLSTATE {getattr(error.orig, 'sqlstate', None)})", refused=True
        )
    except IntegrityError as error:
        return NotWritten(_broken_rule(error), refused=True)


RULES = {
    "uq_vps_live_order_id": "another record holds this order",
    "uq_vps_live_guest": "another record holds this guest",
    "pk_vps": "another record has this id",
    "pk_vps_queues": "another record has this id",
    "fk_vps_user_id_users": "the panel does not know this owner",
    "fk_vps_merged_into_vps": "the record to merge into does not exist",
    "fk_vps_queues_merged_into_vps_queues": "the record to merge into does not exist",
    "uq_operations_vps_id_seq": "another operation of this VPS was journaled first",
}
"""What a broken constraint means: mostly that another transaction was first. The rest are checks of the values."""


def _broken_rule(error: IntegrityError) -> str:
    """A sentence by the constraint's name as the driver reports it; the server's own words may be of any language."""
    constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    return f"{RULES.get(constraint or '', 'the values break a rule of the table')} ({constraint})"


def _create(run: _Run, change: Create) -> Written | NotWritten:
    connection, order = run.connection, change.order
    rows.lock_orders(connection, [order.order_id])
    if (why := _made_already(connection, order)) is not None:
        return NotWritten(why)
    vps_id = connection.scalar(text("SELECT nextval('vps_id_seq')"))
    vps_queues = tables.vps_queues
    connection.execute(
        insert(vps_queues).values(vps_id=vps_id, last_seq=1, applied_seq=1, queue_state="live", order_id=order.order_id)
    )
    row = repaired_row(vps_id, change.values, rows.database_now(connection), change.source)
    rows.store_new(connection, row)
    written = _journal(run, change, vps_id, 1, None, row)
    rows.claim_order(connection, order.order_id, vps_id, written.operation_id)
    return written


def _made_already(connection: Connection, order: Order) -> str | None:
    """Why an order needs no record any more: it has one by now, or one is on its way."""
    order_claims, vps_queues, vps = tables.order_claims, tables.vps_queues, tables.vps
    claimed = connection.execute(
        select(vps_queues.c.vps_id, vps_queues.c.queue_state)
        .join(order_claims, order_claims.c.vps_id == vps_queues.c.vps_id)
        .where(order_claims.c.order_id == order.order_id)
    ).one_or_none()
    if claimed is not None and claimed.queue_state == "live":
        return f"order {order.order_id} is claimed by VPS {claimed.vps_id}, whose create is on its way"
    held = select(vps.c.id).where(vps.c.order_id == order.order_id, vps.c.deleted_at.is_(None))
    if connection.scalar(held) is not None:
        return f"order {order.order_id} has a record by now"
    coming = connection.scalar(
        select(vps_queues.c.vps_id).where(
            vps_queues.c.vps_id == order.panel_vps_id,
            vps_queues.c.queue_state == "live",
            vps_queues.c.applied_seq < vps_queues.c.last_seq,
        )
    )
    if coming is not None:
        return f"VPS {coming}, which the main site names for order {order.order_id}, is on its way"
    return None


def _change(run: _Run, change: Update | Unlink | Delete) -> Written | NotWritten:
    connection, vps_id = run.connection, change.record.id
    rows.lock_orders(connection, [change.values.get("order_id")])
    found = run.settled(change.record)
    if isinstance(found, NotWritten):
        return found
    queue, row = found
    at = rows.database_now(connection)
    after = changed_row(row, change, at)
    queue_state = {"queue_state": "deleted"} if isinstance(change, Delete) else {}
    seq = queue["last_seq"] + 1
    after = rows.store_changed(connection, row, with_status(after | {"applied_seq": seq}))
    rows.advance_vps_queue(connection, vps_id, seq, last_seq=seq, **queue_state)
    written = _journal(run, change, vps_id, seq, row, after)
    if after["order_id"] is not None and after["order_id"] != row["order_id"]:
        rows.claim_order(connection, after["order_id"], vps_id, written.operation_id)
    return written


def changed_row(row: Row, change: Update | Unlink | Delete, at: datetime) -> Row:
    """What a change makes of a record, but for its place in the journal."""
    after = row | dict(change.values) | {"updated_at": at}
    match change:
        case Unlink():
            return release_address(after, at)
        case Delete():
            return after | {"deleted_at": at, "deleted_reason": change.reason}
        case Update():
            return after


def _merge(run: _Run, change: Merge) -> Written | NotWritten:
    """Fold a record into the survivor: nothing is lost, either id reaches the survivor afterwards."""
    connection, loser_id, survivor_id = run.connection, change.record.id, change.survivor.id
    # Names before VPS queues, as everywhere: a create of one of these orders may be waiting for a queue already.
    orders = [row["order_id"] for id_ in (loser_id, survivor_id) if (row := rows.load_row(connection, id_)) is not None]
    rows.lock_orders(connection, orders)
    rows.lock_vps_queues(connection, [loser_id, survivor_id])
    lost, kept = run.settled(change.record), run.settled(change.survivor)
    if isinstance(lost, NotWritten):
        return lost
    if isinstance(kept, NotWritten):
        return kept
    (queue, row), (other_queue, other) = lost, kept
    if [row["order_id"], other["order_id"]] != orders:
        return NotWritten("one of the two records was linked to another order meanwhile")
    if row["user_id"] != other["user_id"]:
        return NotWritten("the two records have different owners")
    at = rows.database_now(connection)
    seq, other_seq = queue["last_seq"] + 1, other_queue["last_seq"] + 1
    after = row | {"deleted_at": at, "deleted_reason": "merged", "merged_into": survivor_id, "updated_at": at}
    after = rows.store_changed(connection, row, after | {"applied_seq": seq})
    survivor = other | inherited(other, row) | {"updated_at": at, "applied_seq": other_seq}
    survivor = rows.store_changed(connection, other, with_status(survivor))
    rows.advance_vps_queue(connection, loser_id, seq, last_seq=seq, merged_into=survivor_id)
    rows.advance_vps_queue(connection, survivor_id, other_seq, last_seq=other_seq)
    written = _journal(run, change, loser_id, seq, row, after)
    _journal(run, change, survivor_id, other_seq, other, survivor, action="update")
    order_claims = tables.order_claims
    connection.execute(update(order_claims).where(order_claims.c.vps_id == loser_id).values(vps_id=survivor_id))
    if survivor["order_id"] is not None:
        rows.claim_order(connection, survivor["order_id"], survivor_id, written.operation_id)
    return written


def inherited(survivor: Row, loser: Row) -> Row:
    """What the survivor takes over: an order or a guest only where it has none of its own, and the newer of
    two facts."""
    new: Row = {}
    if survivor["order_id"] is None and loser["order_id"] is not None:
        new |= {"order_id": loser["order_id"], "order_linked_once": True}
    if survivor["vmid"] is None and loser["vmid"] is not None:
        new |= {column: loser[column] for column in LINK_COLUMNS} | {"guest_linked_once": True}
    if loser["order_changed_at"] > survivor["order_changed_at"]:
        new |= {column: loser[column] for column in names(in_group(Facts.ORDER))}
    if loser["power_changed_at"] > survivor["power_changed_at"] and loser["power_state"] != "unknown":
        new |= {column: loser[column] for column in names(in_group(Facts.POWER))}
    return new


def _settled(connection: Connection, vps_id: int, expected: int) -> tuple[Row, Row] | NotWritten:
    """The queue and the record, locked, if nothing is in flight and the version is the one decided on."""
    queue = rows.lock_vps_queues(connection, [vps_id]).get(vps_id)
    row = rows.load_row(connection, vps_id)
    if queue is None or row is None:
        return NotWritten(f"VPS {vps_id} has no record")
    if queue["applied_seq"] < queue["last_seq"]:
        return NotWritten(f"a newer call for VPS {vps_id} is waiting to be applied")
    if row["version"] != expected:
        return NotWritten(f"VPS {vps_id} changed since it was looked at")
    if row["deleted_at"] is not None:
        return NotWritten(f"VPS {vps_id} is deleted by now")
    return queue, row


def _journal(
    run: _Run, change: Change, vps_id: int, seq: int, before: Row | None, after: Row, action: str | None = None
) -> Written:
    old, new = rows.difference(before, after)
    short = rows.summary(before, after)
    operation_id = run.connection.scalar(
        insert(tables.operations)
        .values(
            kind="repair",
            action=action or ("update" if change.action == "unlink" else change.action),
            vps_id=vps_id,
            seq=seq,
            source=change.source,
            payload={},
            state="applied",
            attempts=0,
            result=short,
            reason=change.reason,
            evidence=_with_reads(run.connection, run.evidence),
            before=old,
            after=new,
            run_id=run.id,
            epoch=run.epoch,
            applied_at=text("clock_timestamp()"),
            publish_at=None,
        )
        .returning(tables.operations.c.id)
    )
    if operation_id is None:
        raise RuntimeError("the journal returned no id")
    return Written(operation_id, vps_id, short)


def _with_reads(connection: Connection, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence, and what the reads said that it rests on: it is to be readable for as long as the journal is."""
    proof = [*evidence.get("guest_snapshots", ()), *evidence.get("order_snapshots", ())]
    if not proof:
        return dict(evidence)
    reads = [dict(row._mapping) for row in connection.execute(READS, {"ids": proof})]
    plain = [{k: v.isoformat() if isinstance(v, datetime) else v for k, v in read.items()} for read in reads]
    return dict(evidence) | {"reads": plain}


READS = text(
    "SELECT id AS snapshot, source, scope, began_at, effective_at, count FROM snapshots WHERE id = ANY(:ids)"
    " ORDER BY id"
)


def note_confirmations(connection: Connection, began: Mapping[str, datetime]) -> None:
    """Mark since when a record's power is not borne out by trusted reads, and take the mark back.

    A confirmed record is not touched: clients get its "as of" from the read of its node. ``began``: per
    cluster, when the trusted read began. No version changes, since no fact does.
    """
    for cluster, at in began.items():
        connection.execute(text(DOUBT), {"cluster": cluster, "began": at})
        connection.execute(text(BELIEVE), {"cluster": cluster})


# A guest speaks for a record only while it is known to be the record's own machine, and nobody else's by now.
_BORNE_OUT = f"""
EXISTS (SELECT 1 FROM guests g WHERE g.cluster = r.cluster AND g.vmid = r.vmid AND g.power = r.power_state
        AND g.fingerprint_state IN ('read', 'forbidden') AND g.fingerprint IS NOT DISTINCT FROM r.fingerprint
        AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid))
AND NOT {SOLD_ON}
"""
DOUBT = f"""
UPDATE vps r SET power_unconfirmed_since = :began
WHERE r.cluster = :cluster AND r.deleted_at IS NULL AND r.power_unconfirmed_since IS NULL AND NOT ({_BORNE_OUT})
"""
BELIEVE = f"""
UPDATE vps r SET power_unconfirmed_since = NULL
WHERE r.cluster = :cluster AND r.deleted_at IS NULL AND r.power_unconfirmed_since IS NOT NULL AND {_BORNE_OUT}
"""
