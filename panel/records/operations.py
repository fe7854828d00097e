"""The journal as a list, for operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from panel.schema import tables


def list_operations(
    connection: Connection, *, state: str | None = None, vps_id: int | None = None, limit: int, offset: int = 0
) -> Sequence[Row[Any]]:
    """Operations, newest first: of every state or of one, of every VPS or of one."""
    listed = tables.operations
    wanted = select(listed).order_by(listed.c.id.desc()).limit(limit).offset(offset)
    if state is not None:
        wanted = wanted.where(listed.c.state == state)
    if vps_id is not None:
        wanted = wanted.where(listed.c.vps_id == vps_id)
    return connection.execute(wanted).all()
