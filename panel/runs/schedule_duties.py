"""What must happen again and again: who asked for it, when it was done last, and whether that is too long ago.

Everything is measured by the database's clock. A message that said until when it is good would be judged by another
machine's: a worker whose clock is ahead would throw all of them away. Instead a worker that begins takes what was asked
for, and finds nothing to do where a message is older than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import structlog
from sqlalchemy import Connection, text

from panel.journal.rows import raise_finding

log = structlog.get_logger(__name__)

BEAT = "beat"
"""The trigger of what beat asks for; other messages are nudges, and are followed whatever was asked for."""

RELAY = "relay"

LANES = {
    "reconcile.fast": "fast",
    "reconcile.run": "full",
    "users.import": "users",
    "findings.tell": "alarms",
    "maintenance.prune": "prune",
}
"""Task -> how it is called towards operators."""

MISSED = 3
"""Intervals without its being done, after which a lane is late."""

LEAST_S = 60.0
"""However short the interval: a restart of the workers takes a while."""

LATE = "lane-late"


@dataclass(frozen=True, slots=True)
class Duty:
    """One duty's standing. Ages in seconds, None for what never happened; ``problem``: of the last failure."""

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
        """As operators know it."""
        return LANES.get(self.name, self.name)

    @property
    def late(self) -> bool:
        """Whether it was not done for so long that somebody must look."""
        if self.every_s is None:
            return False
        waited = self.since_s if self.done_s is None else min(self.done_s, self.since_s)
        return waited > max(MISSED * self.every_s, LEAST_S)

    @property
    def failing(self) -> bool:
        """Whether the last thing that is known is a failure."""
        return self.failed_s is not None and (self.done_s is None or self.failed_s < self.done_s)

    @property
    def standing(self) -> str:
        """One clause for people."""
        did = "was never done" if self.done_s is None else f"was done {self.done_s:.0f} s ago"
        return f"{did}, last failed with {self.problem}" if self.failing else did

    @property
    def cause(self) -> str:
        """Where it stands still, as far as the database can tell."""
        limit = MISSED * (self.every_s or 0)
        if self.asked_s is None or self.asked_s > limit:
            return "beat does not ask for it: look whether beat runs"
        if self.began_s is None or self.began_s > limit:
            return "no worker begins it: look at the workers of its queue and at Redis"
        return "it is begun and does not end well: look at panel-sync runs and the worker's log"


def ask(connection: Connection, name: str, every_s: float) -> None:
    """Note that it is due now, as beat does before it sends the message."""
    connection.exec_driver_sql(ASK, {"name": name, "every_s": every_s})


def begin(connection: Connection, name: str) -> bool:
    """Whether there is something to do: it was asked for since it began last. Takes the asking."""
    found = connection.scalar(BEGIN, {"name": name})
    # A beat of an older version asks for nothing, it only sends.
    return found is not None or not connection.scalar(KNOWN, {"name": name})


def note_done(connection: Connection, name: str) -> None:
    """It was done, to the end."""
    connection.execute(DONE, {"name": name})


def note_failed(connection: Connection, name: str, problem: str) -> None:
    """It was tried. ``problem``: an error's class or code, no text."""
    connection.execute(FAILED, {"name": name, "problem": problem})


def list_duties(connection: Connection) -> list[Duty]:
    """All of them that were ever asked for or done."""
    return [Duty(**row._mapping) for row in connection.execute(LIST, {"names": [RELAY, *LANES]})]


def tell_late(connection: Connection) -> list[str]:
    """Open an alarm for every lane that is late, and resolve those of lanes that are no longer; the late ones."""
    late = [duty for duty in list_duties(connection) if duty.late]
    for duty in late:
        reason = f"the lane {duty.lane} {duty.standing}, and is due every {duty.every_s:g} s; {duty.cause}"
        raise_finding(connection, LATE, f"lane:{duty.lane}", reason, severity="alarm")
    connection.execute(RESOLVE, {"class": LATE, "late": [f"lane:{duty.lane}" for duty in late]})
    return [duty.lane for duty in late]


# As the driver takes it: beat has a connection of its own, which holds its lock.
ASK: LiteralString = (
    "INSERT INTO duties (name, every_s, asked_at) VALUES (%(name)s, %(every_s)s, clock_timestamp())"
    " ON CONFLICT (name) DO UPDATE SET every_s = excluded.every_s, asked_at = excluded.asked_at,"
    # Asked for again after a long silence: a panel that was switched off is not late at once.
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
    # What only an older version did is nobody's duty any more, and would be late for ever.
    " WHERE name = ANY(CAST(:names AS text[])) ORDER BY name"
)
RESOLVE = text(
    "UPDATE findings SET resolved_at = clock_timestamp() WHERE class = :class AND resolved_at IS NULL"
    " AND NOT subject = ANY(CAST(:late AS text[]))"
)
