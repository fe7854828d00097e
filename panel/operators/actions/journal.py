"""Requeue or discard a dead call, and restore a deleted record."""

from __future__ import annotations

from sqlalchemy import Connection

from panel.journal import dead_letters
from panel.journal.restore import restore_vps
from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor


@action("requeue", "/dead/{operation_id:id}/requeue", later=True)
def requeue(connection: Connection, _actor: Actor, operation_id: int) -> Done[None]:
    """Journal a dead call again, as if it had come now. Refused if that would undo a later call."""
    new_id = dead_letters.requeue(connection, operation_id)
    return Done((f"operation:{operation_id}",), f"operation {operation_id} is queued again as operation {new_id}", None)


@action("discard", "/dead/{operation_id:id}/discard")
def discard(connection: Connection, _actor: Actor, operation_id: int, reason: str) -> Done[None]:
    """Give a dead call up, with a reason. It is never applied."""
    dead_letters.discard(connection, operation_id, reason)
    return Done((f"operation:{operation_id}",), f"operation {operation_id} is discarded", None)


@action("vps restore", "/vps/{vps_id:id}/restore")
def restore(connection: Connection, actor: Actor, vps_id: int, reason: str) -> Done[None]:
    """Bring a record back that was deleted in the last 7 days. No run deletes it for the next 7 days, and absences that
    were counted before do not count any more."""
    row = restore_vps(connection, vps_id, reason, actor.by)
    until = f"{row['protected_until']:%Y-%m-%d %H:%M:%S} UTC"
    return Done((f"vps:{vps_id}",), f"VPS {vps_id} is {row['status']} again, protected until {until}", None)
