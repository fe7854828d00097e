"""The journal and the runs, for operators: why a record changed, and what the latest runs did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from panel.operator_error import OperatorError
from panel.records.identities import IdentityView, identity_of
from panel.schema import tables


@dataclass(frozen=True, slots=True)
class History:
    """``record``: None while its create is not applied. ``operations``: in order. ``removed``: how many older ones the
    journal no longer has. ``identity``: None for a record that names no guest."""

    record: Row[Any] | None
    operations: Sequence[Row[Any]]
    removed: int
    identity: IdentityView | None


def vps_history(connection: Connection, vps_id: int) -> History:
    """A VPS's part of the journal. Raises OperatorError."""
    vps, operations, vps_queues = tables.vps, tables.operations, tables.vps_queues
    statement = select(operations).where(operations.c.vps_id == vps_id).order_by(operations.c.seq)
    kept = connection.execute(statement).all()
    if not kept:
        raise OperatorError("unknown", f"VPS {vps_id} does not exist in the panel")
    record = connection.execute(select(vps).where(vps.c.id == vps_id)).one_or_none()
    journaled = connection.scalar(select(vps_queues.c.last_seq).where(vps_queues.c.vps_id == vps_id)) or 0
    return History(record, kept, max(0, journaled - len(kept)), identity_of(connection, vps_id))


def recent_runs(connection: Connection, *, kind: str | None = None, limit: int = 20) -> Sequence[Row[Any]]:
    """Runs, newest first."""
    runs = tables.runs
    wanted = select(runs).order_by(runs.c.id.desc()).limit(limit)
    if kind is not None:
        wanted = wanted.where(runs.c.kind == kind)
    return connection.execute(wanted).all()
