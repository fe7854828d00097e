"""Periodic duties: when each was last asked for, begun and done, and whether it is late.

All times are the database's. If messages had an expiry time, a worker with a clock that is ahead would drop every
message. So messages have none: a worker that begins a duty takes the request from the table. If it finds none, the
message is old and there is nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import structlog
from sqlalchemy import Connection, text

from panel.journal.rows import raise_finding

log = structlog.get_logger(__name__)

BEAT = "beat"
"""The trigger of tasks that beat asks for. A worker does every other request, however old its message is."""

RELAY = "relay"

ALARMS = "findings.tell"

LANES = {
    "reconcile.fast": "fast",
    "reconcile.run": "full",
    "users.import": "users",
    ALARMS: "alarms",
    "maintenance.prune": "prune",
}
"""Task -> the name that operators see."""

MISSED = 3
"""A duty that was not done for this many intervals is late."""

LEAST_S = 60.0
"""A duty is never late before this, however short its interval: a restart of the workers takes a while."""

LATE = "lane-late"


@dataclass(frozen=True, slots=True)
class Duty:
    """One duty as it is now. Ages are in seconds, None if it never happened. ``problem``: of the last failure."""

    name: str
    every_s: float | None
    since_s: float
    asked_s: float | None
    began_s: float | None
    done_s: float | None
    failed_s: float | None
    problem: str | None

    @property
    def lane(self) -> str:
        """The name that operators see."""
        return LANES.get(self.name, self.name)

    @property
    def late(self) -> bool:
        """Whether it was not done for so long that an operator must look."""
        if self.every_s is None:
            return False
        waited = self.since_s if self.done_s is None else min(self.done_s, self.since_s)
        return waited > max(MISSED * self.every_s, LEAST_S)

    @property
    def failing(self) -> bool:
        """Whether its last known attempt failed."""
        return self.failed_s is not None and (self.done_s is None or self.failed_s < self.done_s)

    @property
    def last_outcome(self) -> str:
        """One clause for operators."""
        did = "was never done" if self.done_s is None else f"was done {self.done_s:.0f} s ago"
        return f"{did}, last failed with {self.problem}" if self.failing else did

    @property
    def cause(self) -> str:
        """Where it is stuck, as far as the database can tell."""
        limit = MISSED * (self.every_s or 0)
        if self.asked_s is None or self.asked_s > limit:
            return "beat does not ask for it: check that beat runs"
        if self.began_s is None or self.began_s > limit:
            return "no worker begins it: check Redis and the workers of its queue"
        if self.name == ALARMS and self.failing:
            return (
                "FINDING_WEBHOOK_URL does not take every alarm: look for webhook_failed in the worker's log, and at "
                "panel-sync findings. What you acknowledge there is not sent any more"
            )
        return "a worker begins it but does not finish: look at panel-sync runs and the worker's log"


def begin(connection: Connection, name: str) -> bool:
    """Take the request for this duty. Returns whether there is one: beat asked for it after it last began."""
    taken = connection.scalar(BEGIN, {"name": name})
    # A beat of an older version stores no request, it only sends the message.
    return taken is not None or not connection.scalar(KNOWN, {"name": name})


def note_done(connection: Connection, name: str) -> None:
    """Note that it was done to the end."""
    connection.execute(DONE, {"name": name})


def note_failed(connection: Connection, name: str, problem: str) -> None:
    """Note that it was tried and failed. ``problem``: an error's class or code, or a few words without a secret."""
    connection.execute(FAILED, {"name": name, "problem": problem})


def list_duties(connection: Connection) -> list[Duty]:
    """All duties that were ever asked for or done."""
    return [Duty(**row._mapping) for row in connection.execute(LIST, {"names": [RELAY, *LANES]})]


def raise_late_alarms(connection: Connection) -> list[str]:
    """Open an alarm for every late duty, and resolve the alarms of the others. Returns the names of the late ones."""
    late = [duty for duty in list_duties(connection) if duty.late]
    for duty in late:
        reason = f"the lane {duty.lane} {duty.last_outcome}, and is due every {duty.every_s:g} s; {duty.cause}"
        raise_finding(connection, LATE, f"lane:{duty.lane}", reason, severity="alarm")
    connection.execute(RESOLVE, {"class": LATE, "late": [f"lane:{duty.lane}" for duty in late]})
    return [duty.lane for duty in late]


# Stores that a duty is due now. In the driver's parameter style: beat uses its own connection, which holds its lock.
ASK: LiteralString = (
    "INSERT INTO duties (name, every_s, asked_at) VALUES (%(name)s, %(every_s)s, clock_timestamp())"
    " ON CONFLICT (name) DO UPDATE SET every_s = excluded.every_s, asked_at = excluded.asked_at,"
    # After a long time without requests, count from now: a panel that was switched off is not late at once.
    " since = CASE WHEN duties.asked_at > clock_timestamp() - make_interval(secs => 3 * excluded.every_s + 60)"
    " THEN duties.since ELSE clock_timestamp() END"
)
BEGIN = text(
    "UPDATE duties SET began_at = clock_timestamp()"
    " WHERE name = :name AND (began_at IS NULL OR asked_at > began_at) RETURNING 1"
)
KNOWN = text("SELECT 1 FROM duties WHERE name = :name AND asked_at IS NOT NULL")
DONE = text(
    "INSERT INTO duties (name, done_at) VALUES (:name, clock_timestamp())"
    " ON CONFLICT (name) DO UPDATE SET done_at = excluded.done_at"
)
FAILED = text(
    "INSERT INTO duties (name, failed_at, problem) VALUES (:name, clock_timestamp(), :problem)"
    " ON CONFLICT (name) DO UPDATE SET failed_at = excluded.failed_at, problem = excluded.problem"
)


def _age(column: str) -> str:
    return f"CAST(extract(epoch FROM clock_timestamp() - {column}) AS float8) AS {column.removesuffix('_at')}_s"


LIST = text(
    f"SELECT name, every_s, {_age('since')}, {_age('asked_at')}, {_age('began_at')}, {_age('done_at')},"  # noqa: S608 - own text
    f" {_age('failed_at')}, problem FROM duties"
    # A duty that only an older version had is never done any more, and would be late for ever.
    " WHERE name = ANY(CAST(:names AS text[])) ORDER BY name"
)
RESOLVE = text(
    "UPDATE findings SET resolved_at = clock_timestamp() WHERE class = :class AND resolved_at IS NULL"
    " AND NOT subject = ANY(CAST(:late AS text[]))"
)
