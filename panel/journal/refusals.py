"""Details of refused sync calls: one row each, at most DETAILS_AN_HOUR, because a main site that repeats a wrong call
for days must not fill the disk. ``access_counts`` counts all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from panel.journal.calls import Call, Refused
from panel.schema import tables

DETAILS_AN_HOUR = 1000


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
    """Store rows of ``refused_row``, as many as DETAILS_AN_HOUR still allows."""
    recent: int = await connection.scalar(RECENT, {"limit": DETAILS_AN_HOUR}) or 0
    if kept := refusals[: max(0, DETAILS_AN_HOUR - recent)]:
        await connection.execute(insert(tables.refused_calls), [dict(row) for row in kept])


RECENT = text(
    "SELECT count(*) FROM (SELECT FROM refused_calls WHERE at > clock_timestamp() - interval '1 hour' LIMIT :limit) r"
)
