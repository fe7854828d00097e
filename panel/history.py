"""The journal and the runs, read for people: why did this change, and what did the reconciler do lately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from panel import tables
from panel.operators import OperatorError


def vps_history(connection: Connection, vps_id: int) -> tuple[Row[Any] | None, Sequence[Row[Any]]]:
    """(the record or None while its create is not applied, its operations in order). Raises OperatorError."""
    vps, operations = tables.vps, tables.operations
    found = connection.execute(select(operations).where(operations.c.vps_id == vps_id).order_by(operations.c.seq)).all()
    if not found:
        raise OperatorError("unknown", f"VPS {vps_id} does not exist in the panel")
    return connection.execute(select(vps).where(vps.c.id == vps_id)).one_or_none(), found


def recent_runs(connection: Connection, *, kind: str | None = None, limit: int = 20) -> Sequence[Row[Any]]:
    """Runs, newest first."""
    runs = tables.runs
    wanted = select(runs).order_by(runs.c.id.desc()).limit(limit)
    if kind is not None:
        wanted = wanted.where(runs.c.kind == kind)
    return connection.execute(wanted).all()
