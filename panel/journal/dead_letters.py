"""Calls that failed for good. For each, an operator decides to try it again or to leave it undone.

The VPS's queue went on without the dead call. So the new try is a new operation at the end of the queue, and the
journal keeps showing the order in which a VPS's calls were applied. Either way the call is no longer dead, and its
reason says what the operator did.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, Row, select, text, update

from panel.api_answer import api_answer
from panel.journal import rows
from panel.journal.accept_batch import JOURNAL_CHANNEL
from panel.journal.order_claims import holder_of
from panel.operator_error import OperatorError
from panel.records.projection import Row as Record
from panel.schema import tables


@api_answer
@dataclass(frozen=True, slots=True)
class DeadView:
    """A call that failed for good. ``error``: class and code of the last failure, without values."""

    id: int
    vps_id: int
    action: Literal["create", "update", "delete"]
    attempts: int
    error: str | None
    accepted_at: datetime
    applied_at: Annotated[datetime, Field(description="When the panel gave it up")]


def list_dead(connection: Connection, limit: int = 100) -> list[DeadView]:
    """The dead calls, newest first."""
    return [DeadView(**row._mapping) for row in connection.execute(DEAD, {"limit": limit})]


def requeue(connection: Connection, operation_id: int) -> int:
    """Journal a dead call again, as if it had come now. Returns the new operation's id. Raises OperatorError.

    Refused if it would undo a later change or delete, or take back an order that belongs to another record by now.
    """
    dead, queue, record = _lock_dead(connection, operation_id)
    if (why_not := _hindrance(connection, dead, queue, record)) is not None:
        raise OperatorError("conflict", why_not)
    seq = queue["last_seq"] + 1
    new_id = rows.journal(
        connection, kind="sync", action=dead.action, vps_id=dead.vps_id, seq=seq, source=dead.source,
        payload=dead.payload, state="queued", request_id=dead.request_id, api_key_label=dead.api_key_label,
        reason=f"operation {dead.id} once more, as an operator decided",
    )  # fmt: skip
    queue_state = "deleted" if dead.action == "delete" else "live"
    rows.advance_vps_queue(connection, dead.vps_id, queue["applied_seq"], last_seq=seq, queue_state=queue_state)
    if dead.action == "create" and (order := dead.payload.get("order_id")) is not None:
        rows.claim_order(connection, order, dead.vps_id, new_id)
    _set_state(connection, dead.id, "superseded", f"tried once more as operation {new_id}, as an operator decided")
    connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": JOURNAL_CHANNEL})
    return new_id


def discard(connection: Connection, operation_id: int, reason: str) -> None:
    """Leave a dead call undone, and note the reason, which the main site may read. Who it was is in the audit. Raises
    OperatorError."""
    if not reason.strip():
        raise OperatorError("invalid", "discarding a call needs a reason")
    dead, _, _ = _lock_dead(connection, operation_id)
    _set_state(connection, dead.id, "rejected", f"an operator left it undone: {reason.strip()}")


def _lock_dead(connection: Connection, operation_id: int) -> tuple[Row[Any], Record, Record | None]:
    """Lock the queue of a dead call. Returns the call, its queue and its record. Raises OperatorError."""
    operations = tables.operations
    wanted = select(operations).where(operations.c.id == operation_id)
    known = connection.execute(wanted).one_or_none()
    if known is None or known.kind != "sync":
        raise OperatorError("unknown", f"there is no call {operation_id}; `panel-sync operations` lists them")
    rows.lock_orders(connection, [known.payload.get("order_id")])
    queue = rows.lock_vps_queues(connection, [known.vps_id])[known.vps_id]
    dead = connection.execute(wanted).one()
    if dead.state != "dead":
        raise OperatorError("conflict", f"operation {operation_id} is {dead.state}, not dead")
    return dead, queue, rows.load_row(connection, dead.vps_id)


def _hindrance(connection: Connection, dead: Row[Any], queue: Record, record: Record | None) -> str | None:
    """Why the call must not be tried again; None if it may."""
    vps = f"VPS {dead.vps_id}"
    if dead.action == "create":
        if record is not None:
            return f"{vps} exists already"
        if (deleted := _later_delete(connection, dead)) is not None:
            return (
                f"{vps} was deleted by a later call (operation {deleted}); discard this create. If the VPS is wanted"
                " after all, let the main site create it anew"
            )
        order = dead.payload.get("order_id")
        other = holder_of(connection, order, besides=dead.vps_id) if order else None
        return None if other is None else f"order {order} belongs to VPS {other} by now"
    if record is None:
        return f"{vps} was never created; requeue its create first"
    if record["deleted_at"] is not None or (dead.action == "update" and queue["queue_state"] == "deleted"):
        return f"{vps} is deleted"
    if _changed_since(connection, dead):
        return f"{vps} was changed since; this call would undo that change"
    return None


def _later_delete(connection: Connection, dead: Row[Any]) -> int | None:
    """The first delete that was accepted after the call, whatever became of it: after a dead create it is rejected."""
    operations = tables.operations
    later: int | None = connection.scalar(
        select(operations.c.id)
        .where(operations.c.vps_id == dead.vps_id, operations.c.seq > dead.seq, operations.c.action == "delete")
        .order_by(operations.c.seq)
        .limit(1)
    )
    return later


def _changed_since(connection: Connection, dead: Row[Any]) -> bool:
    operations = tables.operations
    later_id = connection.scalar(
        select(operations.c.id)
        .where(
            operations.c.vps_id == dead.vps_id,
            operations.c.seq > dead.seq,
            operations.c.state.in_(("queued", "applied")),
        )
        .limit(1)
    )
    return later_id is not None


def _set_state(connection: Connection, operation_id: int, state: str, reason: str) -> None:
    operations = tables.operations
    connection.execute(update(operations).where(operations.c.id == operation_id).values(state=state, reason=reason))


DEAD = text(
    "SELECT id, vps_id, action, attempts, error, accepted_at, applied_at FROM operations WHERE state = 'dead'"
    " ORDER BY id DESC LIMIT :limit"
)
