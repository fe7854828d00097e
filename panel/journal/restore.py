"""Brings a deleted record back when an operator asks for it, within RESTORABLE after the delete."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, select, text

from domain.identity_doubts import Doubt
from panel.journal import rows
from panel.journal.order_claims import holder_of, other_record_of_order
from panel.observations.identity_doubts import doubt_guest
from panel.operator_error import OperatorError
from panel.records.projection import Row, with_status
from panel.runs.run_requests import request_run
from panel.schema import tables

RESTORABLE = timedelta(days=7)
PROTECTED = timedelta(days=7)
"""How long no run deletes a restored record again, whatever the evidence."""


def restore_vps(connection: Connection, vps_id: int, reason: str, by: str) -> Row:
    """Make a tombstone live again and journal why. Returns the record as it is now. Raises OperatorError.

    All absences of its order and guest are forgotten, so a later delete needs new proof. Its facts stay as they were
    until a run has read which machine is at the address now. Refused after 7 days, for a merged record, while a call
    for it waits, and if its order or guest belongs to another live record by now.
    """
    if not reason.strip():
        raise OperatorError("invalid", "a restore needs a reason")
    known = rows.load_row(connection, vps_id)
    if known is None:
        raise OperatorError("unknown", f"VPS {vps_id} does not exist in the panel")
    rows.lock_orders(connection, [known["order_id"]])
    queue = rows.lock_vps_queues(connection, [vps_id])[vps_id]
    row = rows.load_row(connection, vps_id)
    if row is None:
        raise RuntimeError(f"VPS {vps_id} vanished")
    at = rows.database_now(connection)
    if (why_not := _hindrance(connection, row, queue, known["order_id"])) is not None:
        raise OperatorError("conflict", why_not)
    if at - row["deleted_at"] > RESTORABLE:
        raise OperatorError("conflict", f"VPS {vps_id} was deleted more than {RESTORABLE.days} days ago")
    seq = queue["last_seq"] + 1
    alive = {
        "deleted_at": None,
        "deleted_reason": None,
        "missing_since": None,
        "power_unconfirmed_since": None,
        "protected_until": at + PROTECTED,
        "updated_at": at,
        "applied_seq": seq,
    }
    after = rows.store_changed(connection, row, with_status(row | alive))
    rows.advance_vps_queue(connection, vps_id, seq, last_seq=seq, queue_state="live")
    operation_id = rows.journal_applied(
        connection,
        row,
        after,
        kind="operator",
        action="restore",
        vps_id=vps_id,
        seq=seq,
        source="operator",
        result=f"restored {after['status']}",
        reason=reason.strip(),
        evidence={"by": by, "protected_until": after["protected_until"].isoformat()},
    )
    if after["order_id"] is not None:
        rows.claim_order(connection, after["order_id"], vps_id, operation_id)
    guest = f"{after['cluster']}/{after['vmid']}" if after["vmid"] is not None else None
    connection.execute(FORGET, {"order": after["order_id"], "guest": guest})
    if guest is not None:
        doubt_guest(connection, after["cluster"], after["vmid"], Doubt.RESTORED)
    request_run(connection, f"vps:{vps_id}")
    return after


def _hindrance(connection: Connection, row: Row, queue: Row, locked_order: str | None) -> str | None:
    """Why the record must not be restored; None if it may. ``locked_order``: the order id that the caller locked."""
    vps_id, vps = row["id"], tables.vps
    if row["merged_into"] is not None:
        return f"VPS {vps_id} was merged into VPS {row['merged_into']}; both ids lead to that record"
    if row["deleted_at"] is None:
        return f"VPS {vps_id} is not deleted"
    if queue["applied_seq"] < queue["last_seq"]:
        return f"a call for VPS {vps_id} waits to be applied; try again after that"
    if row["order_id"] != locked_order:
        return f"VPS {vps_id} has just been linked to another order; try again"
    if row["order_id"] is not None:
        taken = other_record_of_order(connection, row["order_id"], vps_id)
        taken = taken or holder_of(connection, row["order_id"], besides=vps_id)
        if taken is not None:
            return f"order {row['order_id']} belongs to VPS {taken} by now"
    if row["vmid"] is not None:
        other = connection.scalar(
            select(vps.c.id).where(
                vps.c.cluster == row["cluster"], vps.c.vmid == row["vmid"], vps.c.deleted_at.is_(None)
            )
        )
        if other is not None:
            return f"guest {row['cluster']}/{row['vmid']} belongs to VPS {other} by now"
    return None


FORGET = text(
    "DELETE FROM absences WHERE (kind = 'order' AND subject = :order) OR (kind = 'guest' AND subject = :guest)"
)
