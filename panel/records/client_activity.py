"""The journal of a VPS as its customer may see it.

The view ``client_activity`` (migration 0024) is the guard. Under the client's role it shows the present owner's time
only, and of each operation the columns that customers see: no operator, reason, evidence, cluster, node or VMID.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.records.projection import Row
from panel.records.reads import reading_as_client


async def client_activity(engine: AsyncEngine, user_id: int, vps_id: int, *, limit: int) -> list[Row]:
    """The latest operations of one of the user's VPS that changed something which customers see, newest first.

    Columns: ``kind action source applied_at became_theirs before after``. ``before`` and ``after`` hold the columns
    that changed, or are None. Empty for another user's VPS.
    """
    values: dict[str, Any] = {"vps_id": vps_id, "limit": limit}
    async with reading_as_client(engine, user_id) as connection:
        return [dict(row._mapping) for row in await connection.execute(ACTIVITY, values)]


ACTIVITY = text(
    "SELECT kind, action, source, applied_at, became_theirs, before, after FROM client_activity"
    " WHERE vps_id = :vps_id AND (became_theirs OR after IS NOT NULL OR action IN ('create', 'restore'))"
    " ORDER BY seq DESC LIMIT :limit"
)
