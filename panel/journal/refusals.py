"""Details of refused sync calls: one row each, at most DETAILS_AN_HOUR, because a main site that repeats a wrong call
for days must not fill the disk. One batch gets DETAILS_A_REQUEST, so that it does not use up the hour.
``access_counts`` counts all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from panel.journal.calls import Call, Refused
from panel.schema import tables

DETAILS_AN_HOUR = 1000
DETAILS_A_REQUEST = 50


def refused_row(call: Call, refused: Refused) -> dict[str, Any]:
    """The audit row of a refused call: ids and texts, never the payload."""
    user_id = call.payload.get("user_id")
    return {
        "status_code": refused.status_code,
        "code": refused.code,
        "message": refused.message,
        "action": call.action,
        "user_id": user_id if isinstance(user_id, int) else None,
        "order_id": call.order_id,
        "vps_id": call.vps_id,
        "request_id": call.request_id,
        "api_key_label": call.api_key_label,
        "address": call.address,
    }


async def note_refusals(connection: AsyncConnection, refusals: Sequence[Mapping[str, Any]]) -> None:
    """Store rows of ``refused_row``, as many as DETAILS_AN_HOUR and DETAILS_A_REQUEST still allow."""
    ids = sorted({row["request_id"] for row in refusals if row["request_id"] is not None})
    recent = await connection.execute(RECENT, {"ids": ids, "limit": DETAILS_AN_HOUR})
    counts = Counter({row.request_id: row.rows for row in recent})
    room = DETAILS_AN_HOUR - counts.total()
    kept = []
    for row in refusals:
        if row["request_id"] is None or counts[row["request_id"]] < DETAILS_A_REQUEST:
            counts[row["request_id"]] += 1
            kept.append(dict(row))
    if kept := kept[: max(0, room)]:
        await connection.execute(insert(tables.refused_calls), kept)


RECENT = text(
    "SELECT CASE WHEN request_id = ANY(CAST(:ids AS text[])) THEN request_id END AS request_id, count(*) AS rows"
    " FROM (SELECT request_id FROM refused_calls WHERE at > statement_timestamp() - interval '1 hour' LIMIT :limit) r"
    " GROUP BY 1"
)
