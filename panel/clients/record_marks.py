"""Whether anything changed among the records of some users, for live updates."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.records.reads import reading


async def record_marks(engine: AsyncEngine, user_ids: Collection[int]) -> Mapping[int, str]:
    """For each of these users a mark of all their live records, in one query. It changes when one of them changes,
    comes or goes. A user without records has none. Raises DatabaseAwayError.

    It tells nothing of a record, so it needs no role of a client.
    """
    async with reading(engine) as connection:
        return {row.user_id: row.mark for row in await connection.execute(MARKS, {"ids": list(user_ids)})}


MARKS = text(
    "SELECT user_id, md5(string_agg(id || '/' || version, ',' ORDER BY id)) AS mark FROM vps"
    " WHERE user_id = ANY(CAST(:ids AS bigint[])) AND deleted_at IS NULL GROUP BY user_id"
)
