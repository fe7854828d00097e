"""Pauses: a source that an operator told the panel to leave alone, with a reason and an end.

The targets are ``all``, ``feed`` and ``proxmox:<cluster>``. A paused source is not read, its records keep their
state, and nothing is concluded. Sync calls are accepted and applied as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from panel import rows
from panel.operators import OperatorError, nudge_run

ALL, FEED, CLUSTER = "all", "feed", "proxmox:"
LONGEST = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause in force, ``until`` on the database's clock."""

    target: str
    reason: str
    by: str
    since: datetime
    until: datetime

    def __str__(self) -> str:
        return f"paused until {self.until:%Y-%m-%d %H:%M:%S} UTC by {self.by}: {self.reason}"


def target_of(name: str, clusters: Iterable[str]) -> str:
    """The target that an operator names: ``all``, ``feed``, or a configured cluster. Raises OperatorError."""
    known = sorted(clusters)
    if name in (ALL, FEED):
        return name
    if name.removeprefix(CLUSTER) in known:
        return CLUSTER + name.removeprefix(CLUSTER)
    raise OperatorError(
        "unknown", f"{name} is neither all, feed nor a configured cluster ({', '.join(known) or 'none'})"
    )


def pause(connection: Connection, target: str, reason: str, length: timedelta, by: str) -> Pause:
    """Pause a source from the next read on; a second pause replaces the first. Raises OperatorError."""
    if not timedelta(0) < length <= LONGEST:
        raise OperatorError("invalid", "a pause lasts for longer than no time and at most 30 days")
    if not reason.strip():
        raise OperatorError("invalid", "a pause needs a reason")
    values = {"target": target, "reason": reason.strip(), "length": length, "by": by}
    row = connection.execute(PAUSE, values).one()
    made = Pause(target, row.pause_reason, row.paused_by, row.paused_at, row.paused_until)
    rows.raise_finding(
        connection,
        "paused",
        f"source:{target}",
        f"{target} is {made}",
        cluster=target.removeprefix(CLUSTER) if target.startswith(CLUSTER) else None,
    )
    return made


def resume(connection: Connection, target: str) -> None:
    """End a pause before its time and ask for a run. Raises OperatorError."""
    if connection.execute(RESUME, {"target": target}).rowcount == 0:
        raise OperatorError("conflict", f"{target} is not paused")
    connection.execute(RESOLVE, {"subjects": [f"source:{target}"]})
    nudge_run(connection)


def current_pauses(connection: Connection) -> dict[str, Pause]:
    """The pauses in force by target; those whose time is over end here, with their findings."""
    over = [row.source for row in connection.execute(END_OVER)]
    if over:
        connection.execute(RESOLVE, {"subjects": [f"source:{source}" for source in over]})
    found = connection.execute(IN_FORCE)
    return {r.source: Pause(r.source, r.pause_reason, r.paused_by, r.paused_at, r.paused_until) for r in found}


PAUSE = text(
    "INSERT INTO source_states (source, paused_at, paused_until, paused_by, pause_reason)"
    " VALUES (:target, clock_timestamp(), clock_timestamp() + :length, :by, :reason)"
    " ON CONFLICT (source) DO UPDATE SET paused_at = excluded.paused_at, paused_until = excluded.paused_until,"
    " paused_by = excluded.paused_by, pause_reason = excluded.pause_reason RETURNING *"
)
_NOTHING = "paused_at = NULL, paused_until = NULL, paused_by = NULL, pause_reason = NULL"
RESUME = text(
    f"UPDATE source_states SET {_NOTHING} WHERE source = :target AND paused_until > clock_timestamp()"  # noqa: S608 - own
)
END_OVER = text(
    f"UPDATE source_states SET {_NOTHING} WHERE paused_until <= clock_timestamp() RETURNING source"  # noqa: S608 - own
)
IN_FORCE = text("SELECT * FROM source_states WHERE paused_until > clock_timestamp() ORDER BY source")
RESOLVE = text(
    "UPDATE findings SET resolved_at = clock_timestamp()"
    " WHERE class = 'paused' AND resolved_at IS NULL AND subject = ANY(:subjects)"
)
