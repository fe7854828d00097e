"""Brings a deleted record back when an operator asks for it, within RESTORABLE after the delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from domain.identity_doubts import Doubt
from panel.journal import rows
from panel.journal.order_claims import holder_sql
from panel.observations.identity_doubts import doubt_guest
from panel.operator_error import OperatorError
from panel.records.projection import Row, with_status
from panel.runs.run_requests import request_run

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
    if row["order_id"] != known["order_id"]:
        raise OperatorError("conflict", f"VPS {vps_id} has just been linked to another order; try again")
    if (hindrance := restore_hindrances(connection, [vps_id]).get(vps_id)) is not None:
        raise OperatorError("conflict", hindrance.why)
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


@dataclass(frozen=True, slots=True)
class RestoreHindrance:
    """Why a record cannot be restored. ``vps_id``: the record that is in the way, if there is one."""

    why: str
    vps_id: int | None = None


def restore_hindrances(connection: Connection, ids: Iterable[int]) -> dict[int, RestoreHindrance]:
    """Why those of these records that cannot be restored now cannot. The restore asks the same with its locks taken."""
    found = connection.execute(STANDS_AGAINST, {"ids": list(ids), "restorable": RESTORABLE})
    judged = {row.id: restore_hindrance(dict(row._mapping)) for row in found}
    return {vps_id: hindrance for vps_id, hindrance in judged.items() if hindrance is not None}


def restore_hindrance(row: Mapping[str, Any]) -> RestoreHindrance | None:
    """Why a record must not be restored; None if it may. ``row``: of STANDS_AGAINST. Pure."""
    vps_id, place = row["id"], f"{row['cluster']}/{row['vmid']}"
    if (survivor := row["merged_into"]) is not None:
        return RestoreHindrance(f"VPS {vps_id} was merged into VPS {survivor}; both ids lead to that record", survivor)
    if row["deleted_at"] is None:
        return RestoreHindrance(f"VPS {vps_id} is not deleted")
    if row["waiting"]:
        return RestoreHindrance(f"a call for VPS {vps_id} waits to be applied; try again after that")
    if (other := row["has_order"]) is not None:
        return RestoreHindrance(f"order {row['order_id']} belongs to VPS {other} by now", other)
    if (other := row["has_guest"]) is not None:
        return RestoreHindrance(f"guest {place} belongs to VPS {other} by now", other)
    if row["too_old"]:
        return RestoreHindrance(f"VPS {vps_id} was deleted more than {RESTORABLE.days} days ago")
    return None


STANDS_AGAINST = text(f"""
SELECT t.id, t.merged_into, t.deleted_at, t.order_id, t.cluster, t.vmid,
  EXISTS (SELECT 1 FROM vps_queues w WHERE w.vps_id = t.id AND w.applied_seq < w.last_seq) AS waiting,
  coalesce(
    (SELECT x.id FROM vps x WHERE x.order_id = t.order_id AND x.deleted_at IS NULL AND x.id <> t.id LIMIT 1),
    ({holder_sql("t.order_id", "t.id")} LIMIT 1)) AS has_order,
  (SELECT x.id FROM vps x WHERE x.cluster = t.cluster AND x.vmid = t.vmid AND x.deleted_at IS NULL AND x.id <> t.id
    LIMIT 1) AS has_guest,
  t.deleted_at < statement_timestamp() - CAST(:restorable AS interval) AS too_old
FROM vps t WHERE t.id = ANY(CAST(:ids AS bigint[]))
""")  # noqa: S608 - own text
FORGET = text(
    "DELETE FROM absences WHERE (kind = 'order' AND subject = :order) OR (kind = 'guest' AND subject = :guest)"
)
