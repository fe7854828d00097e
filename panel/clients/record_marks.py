"""Whether anything changed among the records of some users, for live updates."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.records.reads import reading
from panel.schema.power_tables import IS_OPEN


async def record_marks(engine: AsyncEngine, user_ids: Collection[int]) -> Mapping[int, str]:
    """For each of these users a mark of all their live records, in one query. It changes when one of them changes,
    comes or goes, and when a power action begins, gets on or ends. A user without records has none. Raises
    DatabaseAwayError.

    It tells nothing of a record, so it needs no role of a client.
    """
    async with reading(engine) as connection:
        return {row.user_id: row.mark for row in await connection.execute(MARKS, {"ids": list(user_ids)})}


MARKS = text(
    "SELECT v.user_id,"  # noqa: S608 - own words
    " md5(string_agg(concat_ws('/', v.id, v.version, a.id, a.state, a.step), ',' ORDER BY v.id)) AS mark"
    f" FROM vps v LEFT JOIN power_actions a ON a.vps_id = v.id AND a.{IS_OPEN}"
    " WHERE v.user_id = ANY(CAST(:ids AS bigint[])) AND v.deleted_at IS NULL GROUP BY v.user_id"
)
