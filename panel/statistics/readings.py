"""What a worker does with the rows that wait for a read of Proxmox: take one, and store what came of it.

One row of each node is taken at a time. Whoever reads a node also reads what waits for it, so a node that hangs keeps
one process busy, and the others serve the other nodes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, text

from domain.statistics.measurements import VALUES, Point, Timeframe
from panel.power.facts import Target
from panel.runs.run_requests import request_task
from panel.statistics.requests import TASK

TAKEN_S = 100
"""For so long a row stays taken by a worker that died. The time limit of the task is shorter."""

SILENT_S = 30
"""After a node gave no answer, the rows that wait for it end for so long without a question."""

SILENT, AWAY = "proxmox_silent", "proxmox_away"
"""The problem of a row whose node did not answer, and of one for which it was therefore not asked."""


class TakenOverError(Exception):
    """The row was taken by another worker meanwhile, or is gone."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What this worker reads. ``until``: no other worker takes it before."""

    id: int
    vps_id: int
    user_id: int
    timeframe: Timeframe
    cluster: str
    node: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """For how many seconds the record has been this owner's and has had this machine, as far as the panel knows.
    ``now``: the database's clock."""

    seconds: float
    now: datetime


def take(connection: Connection, row_id: int) -> Taken | None:
    """Take the row, unless nobody waits for it, or its node is being read: then the worker there takes it later."""
    row = connection.execute(WAITING, {"id": row_id}).one_or_none()
    return None if row is None else _take(connection, row)


def take_next(connection: Connection, taken: Taken) -> Taken | None:
    """Take the row that has waited for longest for the node of a row that was just stored."""
    row = connection.execute(NEXT, {"cluster": taken.cluster, "node": taken.node}).one_or_none()
    return None if row is None else _take(connection, row)


def hand_over(connection: Connection, taken: Taken) -> None:
    """Let another message go on with what waits for the node."""
    row = connection.execute(NEXT, {"cluster": taken.cluster, "node": taken.node}).one_or_none()
    if row is not None:
        request_task(connection, TASK, str(row.id))


def _take(connection: Connection, row: Row[tuple[int, str, str]]) -> Taken | None:
    place = {"cluster": row.cluster, "node": row.node}
    connection.execute(ONE_AT_A_TIME, place)
    if connection.scalar(BUSY, place):
        return None
    taken = connection.execute(TAKE, {"id": row.id, "for_s": TAKEN_S}).one_or_none()
    if taken is None:
        return None
    return Taken(
        taken.id, taken.vps_id, taken.user_id, Timeframe(taken.timeframe), taken.cluster, taken.node, taken.taken_until
    )


def is_silent(connection: Connection, taken: Taken) -> bool:
    """Whether the node gave no answer a moment ago."""
    values = {"cluster": taken.cluster, "node": taken.node, "problem": SILENT, "for_s": SILENT_S}
    return bool(connection.scalar(IS_SILENT, values))


def held(connection: Connection, vps_id: int) -> Held:
    """For how long the record has had its machine and its owner."""
    row = connection.execute(HELD, {"id": vps_id}).one()
    return Held(row.seconds, row.now)


def machine_of(target: Target) -> str:
    """The machine in one text, as the view ``client_statistics`` makes it of a record."""
    return f"{target.cluster}/{target.guest_type}/{target.vmid}/{target.fingerprint}"


def store(connection: Connection, taken: Taken, points: Sequence[Point], machine: str, read_at: datetime) -> None:
    """Keep the answer. Raises TakenOverError."""
    plain = [[point.at, *(_rounded(getattr(point, name)) for name in VALUES)] for point in points]
    _end(connection, taken, {"read_at": read_at, "machine": machine, "points": json.dumps(plain), "problem": None})


def store_problem(connection: Connection, taken: Taken, problem: str) -> None:
    """Keep why there was no answer; the last one stays. Raises TakenOverError."""
    _end(connection, taken, {"read_at": None, "machine": None, "points": None, "problem": problem})


def _end(connection: Connection, taken: Taken, values: dict[str, object]) -> None:
    # Before the row: whoever looks for what waits for the node must not find it free and empty at the same time.
    connection.execute(ONE_AT_A_TIME, {"cluster": taken.cluster, "node": taken.node})
    if connection.execute(END, {"id": taken.id, "until": taken.until} | values).rowcount != 1:
        raise TakenOverError


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4) if value < 1_000 else round(value)


ONE_AT_A_TIME = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('statistics ' || CAST(:cluster AS text) || '/' || :node, 0))"
)
WAITING = text("SELECT id, cluster, node FROM vps_statistics WHERE id = :id AND waits_since IS NOT NULL")
NEXT = text(
    "SELECT id, cluster, node FROM vps_statistics WHERE cluster = :cluster AND node = :node"
    " AND waits_since IS NOT NULL ORDER BY waits_since, id LIMIT 1"
)
BUSY = text(
    "SELECT EXISTS (SELECT 1 FROM vps_statistics WHERE cluster = :cluster AND node = :node"
    " AND taken_until > clock_timestamp())"
)
TAKE = text(
    "UPDATE vps_statistics SET taken_until = clock_timestamp() + make_interval(secs => :for_s)"
    " WHERE id = :id AND waits_since IS NOT NULL RETURNING *"
)
IS_SILENT = text(
    "SELECT EXISTS (SELECT 1 FROM vps_statistics WHERE cluster = :cluster AND node = :node AND problem = :problem"
    " AND failed_at > clock_timestamp() - make_interval(secs => :for_s))"
)
END = text(
    "UPDATE vps_statistics SET waits_since = NULL, taken_until = NULL, problem = :problem,"
    " failed_at = CASE WHEN CAST(:problem AS text) IS NOT NULL THEN clock_timestamp() END,"
    " read_at = coalesce(:read_at, read_at), machine = coalesce(:machine, machine),"
    " points = coalesce(CAST(:points AS jsonb), points) WHERE id = :id AND taken_until = :until"
)
# Unlike link_changed_at, the journal tells a machine that only moved to another node. It keeps what changed the owner,
# the address or the fingerprint for as long as the record, and what changed only the link's state or the type for
# JOURNAL_DAYS: weeks that were hidden because the link was unsure may show again then. The fingerprint is the same, so
# it is the same machine. A record that was deleted for a while was not watched meanwhile.
HELD = text("""
SELECT clock_timestamp() AS now, CAST(extract(epoch FROM clock_timestamp() - greatest(
    r.created_at, r.owner_changed_at,
    coalesce((SELECT max(o.applied_at) FROM operations o WHERE o.vps_id = r.id AND o.state = 'applied'
              AND o.after ?| ARRAY['user_id', 'cluster', 'vmid', 'guest_type', 'fingerprint', 'link_state',
                                   'deleted_at']),
             r.link_changed_at),
    coalesce(g.fingerprint_since, g.fingerprint_read_at, clock_timestamp()))) AS float8) AS seconds
FROM vps r LEFT JOIN guests g ON g.cluster = r.cluster AND g.vmid = r.vmid WHERE r.id = :id
""")
