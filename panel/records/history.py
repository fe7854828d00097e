"""The journal and the runs, for operators: why a record changed, and what the latest runs did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from panel.operator_error import OperatorError
from panel.power.views import actions_of_vps
from panel.records.identities import IdentityView, identity_of
from panel.schema import tables


@dataclass(frozen=True, slots=True)
class History:
    """``record``: None while its create is not applied. ``operations``: in order. ``older``: how many are kept besides
    that are older than these. ``removed``: how many older ones the journal no longer has. ``identity``: None for a
    record that names no guest. ``power``: the latest power actions that its customers asked for, oldest first."""

    record: Row[Any] | None
    operations: Sequence[Row[Any]]
    older: int
    removed: int
    identity: IdentityView | None
    power: Sequence[Row[Any]]


POWER_SHOWN = 100
"""How many power actions a history shows."""


def vps_history(connection: Connection, vps_id: int, *, limit: int | None = None, offset: int = 0) -> History:
    """A VPS's part of the journal: all of it, or the latest ``limit`` operations but the very latest ``offset``. Raises
    OperatorError."""
    vps, operations, vps_queues = tables.vps, tables.operations, tables.vps_queues
    kept = connection.scalar(select(func.count()).select_from(operations).where(operations.c.vps_id == vps_id)) or 0
    if not kept:
        raise OperatorError("unknown", f"VPS {vps_id} does not exist in the panel")
    latest = select(operations).where(operations.c.vps_id == vps_id).order_by(operations.c.seq.desc())
    shown = connection.execute(latest.limit(limit).offset(offset)).all()[::-1]
    record = connection.execute(select(vps).where(vps.c.id == vps_id)).one_or_none()
    journaled = connection.scalar(select(vps_queues.c.last_seq).where(vps_queues.c.vps_id == vps_id)) or 0
    older, removed = max(0, kept - offset - len(shown)), max(0, journaled - kept)
    power = actions_of_vps(connection, vps_id, POWER_SHOWN)
    return History(record, shown, older, removed, identity_of(connection, vps_id), power)


def recent_runs(connection: Connection, *, kind: str | None = None, limit: int = 20) -> Sequence[Row[Any]]:
    """Runs, newest first."""
    runs = tables.runs
    wanted = select(runs).order_by(runs.c.id.desc()).limit(limit)
    if kind is not None:
        wanted = wanted.where(runs.c.kind == kind)
    return connection.execute(wanted).all()
