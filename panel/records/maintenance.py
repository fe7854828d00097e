"""Which records operators paused. Runs do not write such a record, so what it says of its machine may be old."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.clients.round_trips import Query, Statement
from panel.records.reads import reading

PAUSED = """EXISTS (SELECT 1 FROM pauses p WHERE p.paused_until > statement_timestamp()
          AND p.target IN ('all', 'proxmox:' || r.cluster, 'vps:' || r.id, 'user:' || r.user_id))"""
"""Of a record ``r``: a pause of everything, its cluster, itself or its customer is in force."""


async def paused_among(engine: AsyncEngine, vps_ids: Sequence[int]) -> frozenset[int]:
    """Those of these records that are paused. Their ids must come of a read in the client's role: this one looks at
    every customer's."""
    async with reading(engine) as connection:
        return frozenset(await connection.scalars(AMONG, {"ids": list(vps_ids)}))


ANY_PAUSE = Query(
    Statement("SELECT EXISTS (SELECT 1 FROM pauses WHERE paused_until > statement_timestamp()) AS in_force")
)
"""Whether any pause is in force. Mostly none is, and then nobody needs to ask which records are paused."""

AMONG = text(f"SELECT r.id FROM vps r WHERE r.id = ANY(CAST(:ids AS bigint[])) AND {PAUSED}")  # noqa: S608 - the parts are constants
