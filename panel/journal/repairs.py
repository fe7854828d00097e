"""Writes the reconciler's changes. Each write compares the record's version and checks the run's epoch.

This module decides nothing. A change that no longer fits (the record changed, a sync call came in, another run took
the lease) is not written, and the next run decides again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, text, update
from sqlalchemy.exc import DataError, IntegrityError

from domain.changes import Change, ChangeOwner, Create, Delete, Merge, Unlink, Update
from domain.orders import Order
from domain.record_columns import Facts, in_group, names
from domain.records import Record
from panel.adoptions import decisions
from panel.journal import rows
from panel.journal.order_claims import awaiting, needs_no_record
from panel.observations.identity_doubts import ALL_SOLD_ON
from panel.observations.proof import Proof
from panel.records.projection import LINK_COLUMNS, Row, release_address, repaired_row, with_status
from panel.runs.lease import hold_lease
from panel.schema import tables

Evidence = Mapping[str, Any]
NO_VERSIONS: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Written:
    """A committed change. ``text`` is the short result ("running -> stopped")."""

    operation_id: int
    vps_id: int
    text: str


@dataclass(frozen=True, slots=True)
class NotWritten:
    """A change that was not written; ``why`` is a sentence. ``refused``: the database refused the values, and may well
    refuse them again. Otherwise the change no longer fits."""

    why: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class _Run:
    """The run that writes. ``versions``: as for ``write_repair``."""

    connection: Connection
    id: int
    epoch: int
    versions: Mapping[int, int]

    def lock(self, records: Iterable[Record]) -> dict[int, tuple[Row, Row] | NotWritten]:
        """Lock the queues and the records, and return both of each record that is as it was decided on, by its id."""
        expected = {record.id: self.versions.get(record.id, record.version) for record in records}
        queues = rows.lock_vps_queues(self.connection, expected)
        known = rows.load_rows(self.connection, expected)
        return {id_: _unchanged(id_, queues.get(id_), known.get(id_), expected[id_]) for id_ in expected}


def write_repair(
    engine: Engine,
    run_id: int,
    epoch: int,
    change: Change,
    evidence: Evidence,
    versions: Mapping[int, int] = NO_VERSIONS,
) -> Written | NotWritten:
    """Write one change in one transaction. ``evidence`` goes to the journal with the change. ``versions``: the present
    versions of the records that this run has changed already. Raises FencedError when the run's lease is gone."""
    try:
        with engine.begin() as connection:
            hold_lease(connection, epoch)
            run = _Run(connection, run_id, epoch, versions)
            match change:
                case Create():
                    return _create(run, change, evidence)
                case Merge():
                    return _merge(run, change, evidence)
                case Update() | Unlink() | Delete():
                    (became,) = _change(run, [(change, evidence)])
                    return became
            raise TypeError(f"no way to write {change!r}")
    except DataError as error:  # one record that the database refuses must not end the run for all others
        return NotWritten(
            f"the database refuses the values (SQLSTATE {getattr(error.orig, 'sqlstate', None)})", refused=True
        )
    except IntegrityError as error:
        return NotWritten(_broken_rule(error), refused=True)


def write_updates(
    engine: Engine,
    run_id: int,
    epoch: int,
    updates: Sequence[tuple[Update, Evidence]],
    versions: Mapping[int, int] = NO_VERSIONS,
) -> list[Written | NotWritten]:
    """Write updates of as many records in one transaction, and return what became of each. Otherwise as
    ``write_repair``; but if the database refuses one of them, or another transaction holds one for longer than
    ``HELD_MS``, none is written, and the error is raised."""
    with engine.begin() as connection:
        hold_lease(connection, epoch)
        connection.execute(text(f"SET LOCAL lock_timeout = {HELD_MS}"))
        return _change(_Run(connection, run_id, epoch, versions), updates)


HELD_MS = 150
"""While updates of many records wait for one that another transaction holds, calls for all the others wait, too."""

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
"""What a broken constraint means: mostly that another transaction was first. All other constraints check values."""


def _broken_rule(error: IntegrityError) -> str:
    """A sentence for the constraint's name. The server's own message is not used: it may be in any language."""
    constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    return f"{RULES.get(constraint or '', 'the values break a rule of the table')} ({constraint})"


def _create(run: _Run, change: Create, evidence: Evidence) -> Written | NotWritten:
    connection, order = run.connection, change.order
    rows.lock_orders(connection, [order.order_id])
    why = (
        needs_no_record(connection, order)
        or _adoption_is_over(connection, change)
        or _is_mapped_anew(connection, order, change.values["user_id"])
    )
    if why is not None:
        return NotWritten(why)
    vps_id = connection.scalar(text("SELECT nextval('vps_id_seq')"))
    vps_queues = tables.vps_queues
    connection.execute(
        insert(vps_queues).values(vps_id=vps_id, last_seq=1, applied_seq=1, queue_state="live", order_id=order.order_id)
    )
    row = repaired_row(vps_id, change.values, rows.database_now(connection), change.source)
    rows.store_new(connection, row)
    (written,) = _journal(run, [_Entry(change, evidence, None, row)])
    rows.claim_order(connection, order.order_id, vps_id, written.operation_id)
    return written


def _change(run: _Run, changes: Sequence[tuple[Update | Unlink | Delete, Evidence]]) -> list[Written | NotWritten]:
    """Write changes of as many records, by a few statements for all of them."""
    connection = run.connection
    rows.lock_orders(connection, [change.values.get("order_id") for change, _ in changes])
    locked = run.lock(change.record for change, _ in changes)
    at = rows.database_now(connection)
    became: list[_Entry | NotWritten] = []
    for change, evidence in changes:
        unchanged = locked[change.record.id]
        if isinstance(unchanged, NotWritten):
            became.append(unchanged)
        elif (why := _why_not(connection, change)) is not None:
            became.append(NotWritten(why))
        else:
            queue, row = unchanged
            after = changed_row(row, change, at) | {"applied_seq": queue["last_seq"] + 1, "version": row["version"] + 1}
            became.append(_Entry(change, evidence, row, with_status(after)))
    entries = [entry for entry in became if isinstance(entry, _Entry)]
    if not entries:
        return [one for one in became if isinstance(one, NotWritten)]
    rows.store_repaired(connection, [entry.after for entry in entries])
    written = _journal(run, entries)
    for entry, made in zip(entries, written, strict=True):
        order_id = entry.after["order_id"]
        if order_id is not None and entry.before is not None and order_id != entry.before["order_id"]:
            rows.claim_order(connection, order_id, made.vps_id, made.operation_id)
    in_turn = iter(written)
    return [next(in_turn) if isinstance(one, _Entry) else one for one in became]


def _why_not(connection: Connection, change: Update | Unlink | Delete) -> str | None:
    """Why a change of an unchanged record must not be written after all. None if it may be."""
    order_id = change.values.get("order_id")
    if order_id is not None and (other := awaiting(connection, order_id, besides=change.record.id)) is not None:
        return f"order {order_id} is claimed by VPS {other}: a call that brings it waits to be applied"
    if (why := _adoption_is_over(connection, change)) is not None:
        return why
    if isinstance(change, ChangeOwner) and change.order is not None:
        return _is_mapped_anew(connection, change.order, change.values["user_id"])
    return None


def _adoption_is_over(connection: Connection, change: Change) -> str | None:
    """Why a change that follows an operator's adoption must not be written. If it may be, the adoption is locked."""
    if change.adoption is None or decisions.stands(connection, change.adoption):
        return None
    return f"the adoption of guest {change.guest_key} was withdrawn, or is over"


def _is_mapped_anew(connection: Connection, order: Order, user_id: int) -> str | None:
    """Why this user may not be the order's customer any more: an operator or the import changed the map of users since
    the decision. If nobody did, the map stays as it is until the transaction ends."""
    users = tables.users
    mapped_at = connection.scalar(select(users.c.mapped_at).where(users.c.id == user_id).with_for_update(read=True))
    if order.mapped_at is None or mapped_at is None or mapped_at == order.mapped_at:
        return None  # a user who is not there is told by the foreign key
    return f"user {user_id} was mapped anew since order {order.order_id} was looked at"


def changed_row(row: Row, change: Update | Unlink | Delete, at: datetime) -> Row:
    """The record after the change, without its new place in the queue and its new status."""
    after = row | dict(change.values) | {"updated_at": at}
    match change:
        case Unlink():
            return release_address(after, at)
        case Delete():
            return after | {"deleted_at": at, "deleted_reason": change.reason}
        case Update():
            return after


def _merge(run: _Run, change: Merge, evidence: Evidence) -> Written | NotWritten:
    """Merge a record into the survivor. Nothing is lost: afterwards both ids lead to the survivor."""
    connection, loser_id, survivor_id = run.connection, change.record.id, change.survivor.id
    # Names before VPS queues, as everywhere: a create for one of these orders may wait for one of the queues already.
    orders = [row["order_id"] for id_ in (loser_id, survivor_id) if (row := rows.load_row(connection, id_)) is not None]
    rows.lock_orders(connection, orders)
    locked = run.lock(change.records)
    loser, kept = locked[loser_id], locked[survivor_id]
    if isinstance(loser, NotWritten):
        return loser
    if isinstance(kept, NotWritten):
        return kept
    (queue, row), (other_queue, other) = loser, kept
    if [row["order_id"], other["order_id"]] != orders:
        return NotWritten("one of the two records was linked to another order meanwhile")
    if row["user_id"] != other["user_id"]:
        return NotWritten("the two records have different owners")
    at = rows.database_now(connection)
    seq, other_seq = queue["last_seq"] + 1, other_queue["last_seq"] + 1
    after = row | {"deleted_at": at, "deleted_reason": "merged", "merged_into": survivor_id, "updated_at": at}
    after = rows.store_changed(connection, row, after | {"applied_seq": seq})
    taken_over = inherited(other, row, takes_guest=change.takes_guest)
    survivor = other | taken_over | {"updated_at": at, "applied_seq": other_seq}
    survivor = rows.store_changed(connection, other, with_status(survivor))
    rows.advance_vps_queue(connection, loser_id, seq, last_seq=seq, merged_into=survivor_id)
    rows.advance_vps_queue(connection, survivor_id, other_seq, last_seq=other_seq)
    written, _ = _journal(
        run, [_Entry(change, evidence, row, after), _Entry(change, evidence, other, survivor, action="update")]
    )
    order_claims = tables.order_claims
    connection.execute(update(order_claims).where(order_claims.c.vps_id == loser_id).values(vps_id=survivor_id))
    if survivor["order_id"] is not None:
        rows.claim_order(connection, survivor["order_id"], survivor_id, written.operation_id)
    return written


def inherited(survivor: Row, loser: Row, *, takes_guest: bool = False) -> Row:
    """What the survivor takes over: the order and the guest only where it has none of its own, and facts that are
    newer than its own. ``takes_guest``: the guest all the same, because its own is gone."""
    new: Row = {}
    if survivor["order_id"] is None and loser["order_id"] is not None:
        new |= {"order_id": loser["order_id"], "order_linked_once": True}
    if (takes_guest or survivor["vmid"] is None) and loser["vmid"] is not None:
        new |= {column: loser[column] for column in LINK_COLUMNS} | {"guest_linked_once": True}
        new |= {"missing_since": loser["missing_since"]} if takes_guest else {}
    if loser["order_changed_at"] > survivor["order_changed_at"]:
        new |= {column: loser[column] for column in names(in_group(Facts.ORDER))}
    if loser["power_changed_at"] > survivor["power_changed_at"] and loser["power_state"] != "unknown":
        new |= {column: loser[column] for column in names(in_group(Facts.POWER))}
    return new


def _unchanged(vps_id: int, queue: Row | None, row: Row | None, expected: int) -> tuple[Row, Row] | NotWritten:
    """The queue and the record, if no call waits and the version is the expected one."""
    if queue is None or row is None:
        return NotWritten(f"VPS {vps_id} has no record")
    if queue["applied_seq"] < queue["last_seq"]:
        return NotWritten(f"a newer call for VPS {vps_id} is waiting to be applied")
    if row["version"] != expected:
        return NotWritten(f"VPS {vps_id} changed since it was looked at")
    if row["deleted_at"] is not None:
        return NotWritten(f"VPS {vps_id} is deleted by now")
    return queue, row


@dataclass(frozen=True, slots=True)
class _Entry:
    """A change for the journal: the record before and after it. ``action``: if it is not the change's own."""

    change: Change
    evidence: Evidence
    before: Row | None
    after: Row
    action: str | None = None


def _journal(run: _Run, entries: Sequence[_Entry]) -> list[Written]:
    """Journal the changes of stored records, in this order."""
    for entry in entries:
        if entry.change.adoption is not None:
            decisions.note_linked(run.connection, entry.change.adoption, entry.after["id"])
    columns = [_columns(run, entry) for entry in entries]
    journaled = [(entry.before, entry.after, values) for entry, values in zip(entries, columns, strict=True)]
    ids = rows.journal_all_applied(run.connection, journaled)
    return [Written(id_, values["vps_id"], values["result"]) for id_, values in zip(ids, columns, strict=True)]


def _columns(run: _Run, entry: _Entry) -> dict[str, Any]:
    change = entry.change
    return {
        "kind": "repair",
        "action": entry.action or ("update" if change.action == "unlink" else change.action),
        "vps_id": entry.after["id"],
        "seq": entry.after["applied_seq"],
        "source": change.source,
        "attempts": 0,
        "result": rows.summary(entry.before, entry.after),
        "reason": change.reason,
        "evidence": _with_reads(run.connection, entry.evidence),
        "run_id": run.id,
        "epoch": run.epoch,
    }


def _with_reads(connection: Connection, evidence: Evidence) -> dict[str, Any]:
    """The evidence with a copy of the snapshots that it names. Snapshots are pruned before the journal, and an operator
    must be able to read the evidence for as long as its operation."""
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


def note_confirmations(connection: Connection, began: Mapping[str, datetime], proof: Proof) -> None:
    """Mark the records that the trusted read does not confirm, and take the mark from those that it confirms.

    The mark is the time from which the power state is unconfirmed. A confirmed record is not written: clients get its
    "as of" from the read of its node. ``began``: for each cluster, when the trusted read began. Versions stay, because
    no fact changes.
    """
    values = {"clusters": list(began), "began": list(began.values())} | asdict(proof)
    connection.execute(text(NOTE_CONFIRMATIONS), values)


# A guest confirms a record only while it is known to be the record's own machine and was not sold on.
_CONFIRMS = """
g.power = r.power_state AND g.fingerprint_state IN ('read', 'forbidden')
AND g.fingerprint IS NOT DISTINCT FROM r.fingerprint
"""
# Three joins of whole tables, because the same questions asked of each record by itself cost several times as much.
_UNCONFIRMED = f"""
SELECT r.id FROM vps r LEFT JOIN guests g ON g.cluster = r.cluster AND g.vmid = r.vmid
WHERE r.deleted_at IS NULL AND NOT coalesce({_CONFIRMS}, false)
UNION ALL
SELECT r.id FROM absences a
JOIN vps r ON r.cluster = split_part(a.subject, '/', 1) AND r.vmid = CAST(split_part(a.subject, '/', 2) AS int)
WHERE a.kind = 'guest'
UNION ALL
({ALL_SOLD_ON})
"""
_READ = "unnest(CAST(:clusters AS text[]), CAST(:began AS timestamptz[])) AS b(cluster, began)"
NOTE_CONFIRMATIONS = f"""
WITH unconfirmed AS MATERIALIZED ({_UNCONFIRMED}),
marked AS (
  UPDATE vps r SET power_unconfirmed_since = b.began FROM unconfirmed u, {_READ}
  WHERE r.id = u.id AND r.cluster = b.cluster AND r.deleted_at IS NULL AND r.power_unconfirmed_since IS NULL)
UPDATE vps r SET power_unconfirmed_since = NULL FROM {_READ}
WHERE r.cluster = b.cluster AND r.deleted_at IS NULL AND r.power_unconfirmed_since IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM unconfirmed u WHERE u.id = r.id)
"""
