"""Whether anything changed of what some users' open pages show, for live updates."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.records.freshness import FRESHNESS, STALE
from panel.records.reads import reading
from panel.schema.power_tables import IS_OPEN


async def record_marks(engine: AsyncEngine, user_ids: Collection[int]) -> Mapping[int, str]:
    """For each of these users a mark, in one query. It changes when one of their live records changes, comes or goes,
    or becomes stale or fresh; when a power action begins, gets on or ends; and when they sign in or out. Raises
    DatabaseAwayError.

    It tells nothing of a record, so it needs no role of a client.
    """
    async with reading(engine) as connection:
        return {row.user_id: row.mark for row in await connection.execute(MARKS, {"ids": list(user_ids)})}


MARKS = text(
    "SELECT u.user_id, md5(concat_ws(';',"  # noqa: S608 - own words
    f" (SELECT string_agg(concat_ws('/', v.id, v.version, {STALE}, a.id, a.state, a.step), ',' ORDER BY v.id)"
    f" FROM {FRESHNESS} LEFT JOIN power_actions a ON a.vps_id = v.id AND a.{IS_OPEN}"
    " WHERE v.user_id = u.user_id AND v.deleted_at IS NULL),"
    " (SELECT string_agg(c.token_hash, ',' ORDER BY c.token_hash) FROM client_sessions c"
    " WHERE c.user_id = u.user_id))) AS mark"
    " FROM unnest(CAST(:ids AS bigint[])) AS u (user_id)"
)
