"""A customer looks at the statistics of a VPS: what is kept of them, and a new read of Proxmox where that is too old.

A row of ``vps_statistics`` is one VPS and timeframe. While it waits for a read, nobody asks for another one, so two
pages at once cause one. The relay publishes its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.statistics.measurements import Point, Timeframe
from panel.power.facts import Target
from panel.records.reads import reading_as_client
from panel.runs.run_requests import request_task

TASK = "statistics.read"

FRESH_S = 60
"""For so long an answer is given again. Proxmox measures once a minute."""

AGAIN_S = 20
"""Seconds until a read that gave nothing is tried again."""

LOST_S = 120
"""A read that was asked for so long ago is asked for again: its message may be lost."""

A_MINUTE = 30
"""Reads of one customer in a minute. A page causes one, whatever its length."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked at, and by whom."""

    vps_id: int
    user_id: int
    timeframe: Timeframe


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of them and is still this customer's. ``read_at``: when Proxmox was asked; None: there is no
    answer. ``age_s``: since then. ``waits``: a read was asked for. ``problem``: why the last try gave nothing."""

    points: tuple[Point, ...] = ()
    read_at: datetime | None = None
    age_s: float | None = None
    waits: bool = False
    problem: str | None = None

    @property
    def fresh(self) -> bool:
        return self.age_s is not None and self.age_s < FRESH_S


async def kept_statistics(engine: AsyncEngine, wanted: Wanted) -> Kept:
    """What is kept, read in the client's role. Nothing for another customer's VPS."""
    values = {"vps_id": wanted.vps_id, "timeframe": wanted.timeframe.value}
    async with reading_as_client(engine, wanted.user_id) as connection:
        row = (await connection.execute(KEPT, values)).one_or_none()
    if row is None:
        return Kept()
    points = tuple(Point(at, *values) for at, *values in row.points or ())
    return Kept(points, row.read_at, row.age_s, row.waits, row.problem)


def ask(connection: Connection, wanted: Wanted, target: Target) -> int | None:
    """Ask the workers for a read, unless one is under way or the last one is young. Returns None, or in how many
    seconds this customer may cause another read. It is asked for once the caller commits."""
    values: dict[str, Any] = {
        "vps_id": wanted.vps_id, "user_id": wanted.user_id, "timeframe": wanted.timeframe.value,
        "cluster": target.cluster, "node": target.node,
        "fresh_s": FRESH_S, "again_s": AGAIN_S, "lost_s": LOST_S,
    }  # fmt: skip
    if connection.scalar(ENOUGH, values):
        return None
    used = connection.execute(USED, {"user_id": wanted.user_id}).one()
    if used.asked >= A_MINUTE:
        return max(1, int(used.free_in_s or 0) + 1)
    row_id = connection.scalar(ASK, values)
    if row_id is not None:
        request_task(connection, TASK, str(row_id))
    return None


KEPT = text(
    "SELECT points, read_at, CAST(extract(epoch FROM clock_timestamp() - read_at) AS float8) AS age_s,"
    " waits_since IS NOT NULL AS waits, problem FROM client_statistics"
    " WHERE vps_id = :vps_id AND timeframe = :timeframe"
)
_ENOUGH = """(coalesce(s.waits_since > statement_timestamp() - make_interval(secs => :lost_s), false)
  OR coalesce(s.read_at > statement_timestamp() - make_interval(secs => :fresh_s), false)
  OR coalesce(s.failed_at > statement_timestamp() - make_interval(secs => :again_s), false))"""
ENOUGH = text(
    "SELECT EXISTS (SELECT 1 FROM vps_statistics s WHERE s.vps_id = :vps_id AND s.user_id = :user_id"  # noqa: S608 - own words
    f" AND s.timeframe = :timeframe AND {_ENOUGH})"
)
USED = text(
    "SELECT count(*) AS asked, extract(epoch FROM min(asked_at) + interval '1 minute' - statement_timestamp())"
    " AS free_in_s FROM vps_statistics WHERE user_id = :user_id"
    " AND asked_at > statement_timestamp() - interval '1 minute'"
)
# Of two that ask at once the second waits for the first one's row, and then finds it asked for.
ASK = text(
    "INSERT INTO vps_statistics AS s (vps_id, user_id, timeframe, cluster, node, waits_since)"  # noqa: S608 - own words
    " VALUES (:vps_id, :user_id, :timeframe, :cluster, :node, clock_timestamp())"
    " ON CONFLICT (vps_id, user_id, timeframe) DO UPDATE SET cluster = excluded.cluster, node = excluded.node,"
    f" asked_at = clock_timestamp(), waits_since = clock_timestamp() WHERE NOT {_ENOUGH} RETURNING id"
)
