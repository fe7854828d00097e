"""Quarantine: a subject at which runs fail is left alone, longer each time, so that it does not hinder the others.

One row for each subject (``vps:12``, ``order:7041``, ``guest:main/101``). The row goes when a run gets through with the
subject. It also goes when an operator releases the subject; the next run then tries it at once.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import structlog
from pydantic import Field
from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import DBAPIError

from domain.backoff import Backoff
from domain.failures import Failure, Stage
from panel.api_answer import api_answer
from panel.journal import rows
from panel.operator_error import OperatorError
from panel.runs.run_requests import request_run

log = structlog.get_logger(__name__)

BACKOFF = Backoff(timedelta(minutes=1), timedelta(hours=6))
"""How long a subject is left alone after each failure."""

SPREAD = 0.2
"""The share by which that time varies at random, so that subjects that failed together are not tried together."""

ALARM_AFTER = 5
"""The finding is an alarm from this many failures on. By then pauses of 1, 2, 4 and 8 minutes have passed."""

ALL = "all"


@api_answer
@dataclass(frozen=True, slots=True)
class QuarantinedView:
    """A subject at which runs keep failing. They leave it alone until ``next_try_at``."""

    subject: str
    stage: Literal["load", "match", "decide", "write"]
    cause: Annotated[str, Field(description="Classes, codes and places; no values")]
    failures: int
    first_failed_at: datetime
    last_failed_at: datetime
    next_try_at: datetime


def backoff_s(failures: int, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds until the next try after so many failures in a row. ``draw``: returns the random factor."""
    return BACKOFF.pause(failures).total_seconds() * draw(1 - SPREAD, 1 + SPREAD)


TRANSIENT = frozenset({"40001", "40P01", "55P03", "57014"})
"""Serialisation failure, deadlock, a lock or a statement that took too long. The same write may succeed soon."""

GENERAL = frozenset({"08", "0A", "25", "28", "3D", "3F", "42", "53", "55", "57", "58", "F0", "XX"})
"""SQLSTATE classes of faults that are not about one object: the connection, rights, tables, resources, the server."""


def own_refusal(error: Exception) -> tuple[str, int] | None:
    """(cause, patience) if the database refused this one object; None if it is away, or would refuse every object."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if not isinstance(error, DBAPIError) or error.connection_invalidated or state is None:
        return None
    if state in TRANSIENT:
        return f"{type(error.orig).__name__} (SQLSTATE {state})", 3
    if state[:2] in GENERAL:
        return None
    return f"{type(error.orig).__name__} (SQLSTATE {state})", 1


def held_back(connection: Connection) -> dict[str, Stage]:
    """The subjects that are not due yet, with the stage at which each failed last."""
    return {row.subject: Stage(row.stage) for row in connection.execute(HELD_BACK)}


def note_failures(connection: Connection, run_id: int, failures: Iterable[Failure]) -> None:
    """Count a run's failures. A subject whose failures reach its patience is held back, and a finding is raised.

    Several failures of one subject in one run count once, by the last of them.
    """
    for failure in {failure.subject: failure for failure in failures}.values():
        earlier = connection.scalar(EARLIER_FAILURES, {"subject": failure.subject}) or 0
        beyond_patience = earlier + 1 - failure.patience + 1
        values = {
            "subject": failure.subject,
            "stage": failure.stage.value,
            "cause": failure.cause,
            "run": run_id,
            "wait_s": backoff_s(beyond_patience) if beyond_patience > 0 else None,
        }
        row = connection.execute(NOTE, values).one()
        log.warning(
            "object_failed", subject=failure.subject, stage=failure.stage.value, cause=failure.cause,
            failures=row.failures, next_try_at=row.next_try_at.isoformat() if row.next_try_at else None,
        )  # fmt: skip
        if row.next_try_at is not None:
            _raise_finding(connection, run_id, row)


def note_recovered(connection: Connection, recovered: Callable[[str], bool]) -> list[str]:
    """Release the due subjects that a run got through with. Returns these subjects."""
    due = [row.subject for row in connection.execute(DUE)]
    released = [subject for subject in due if recovered(subject)]
    if released:
        connection.execute(RELEASE, {"subjects": released})
        connection.execute(RESOLVE, {"subjects": released})
        log.info("quarantine_over", subjects=released)
    return released


def list_quarantined(connection: Connection, limit: int = 200) -> list[QuarantinedView]:
    """The quarantined subjects, due ones included. The one that has failed for longest comes first."""
    return [_quarantined(row) for row in connection.execute(LIST, {"limit": limit})]


def quarantined_among(connection: Connection, subjects: Iterable[str]) -> list[QuarantinedView]:
    """Those of these subjects that are quarantined."""
    return [_quarantined(row) for row in connection.execute(AMONG, {"subjects": sorted(subjects)})]


def release(connection: Connection, subject: str) -> list[str]:
    """Forget the failures of a subject, or of all, and ask for a run. Returns the subjects. Raises OperatorError."""
    quarantined = [row.subject for row in connection.execute(LIST, {"limit": None})]
    chosen = quarantined if subject == ALL else [name for name in quarantined if name == subject]
    if not chosen:
        raise OperatorError("unknown", f"{subject} is not quarantined; `panel-sync quarantined` lists all that are")
    connection.execute(RELEASE, {"subjects": chosen})
    connection.execute(RESOLVE, {"subjects": chosen})
    request_run(connection, subject if re.fullmatch(r"vps:\d+", subject) else "")
    return chosen


STEPS: Mapping[str, str] = {
    "load": "reading its row",
    "match": "matching it with its order, record and guest",
    "decide": "deciding what to repair",
    "write": "confirming or writing its repair",
}


def _raise_finding(connection: Connection, run_id: int, row: Row[Any]) -> None:
    kind, _, name = row.subject.partition(":")
    cluster, _, vmid = name.rpartition("/") if kind == "guest" else (None, None, None)
    rows.raise_finding(
        connection,
        "quarantined",
        row.subject,
        f"{STEPS[row.stage]} failed {row.failures} {'time' if row.failures == 1 else 'times'} ({row.cause}); runs leave"
        f" it alone until {row.next_try_at:%Y-%m-%d %H:%M:%S} UTC; `panel-sync release {row.subject}` tries at once",
        severity="alarm" if row.failures >= ALARM_AFTER else "warning",
        vps_id=int(name) if kind == "vps" else None,
        order_id=name if kind == "order" else None,
        cluster=cluster,
        vmid=int(vmid) if vmid else None,
        last_run_id=run_id,
    )


def _quarantined(row: Row[Any]) -> QuarantinedView:
    return QuarantinedView(**{name: getattr(row, name) for name in QuarantinedView.__slots__})


HELD_BACK = text("SELECT subject, stage FROM quarantine WHERE next_try_at > clock_timestamp()")
DUE = text("SELECT subject FROM quarantine WHERE coalesce(next_try_at <= clock_timestamp(), true)")
EARLIER_FAILURES = text("SELECT failures FROM quarantine WHERE subject = :subject")
NOTE = text(
    "INSERT INTO quarantine AS q (subject, stage, cause, failures, first_failed_at, last_failed_at, next_try_at,"
    " last_run_id) VALUES (:subject, :stage, :cause, 1, clock_timestamp(), clock_timestamp(),"
    " clock_timestamp() + make_interval(secs => :wait_s), :run)"
    " ON CONFLICT (subject) DO UPDATE SET stage = excluded.stage, cause = excluded.cause, failures = q.failures + 1,"
    " last_failed_at = excluded.last_failed_at, next_try_at = excluded.next_try_at,"
    " last_run_id = excluded.last_run_id RETURNING *"
)
LIST = text("SELECT * FROM quarantine WHERE next_try_at IS NOT NULL ORDER BY first_failed_at, subject LIMIT :limit")
AMONG = text(
    "SELECT * FROM quarantine WHERE next_try_at IS NOT NULL AND subject = ANY(CAST(:subjects AS text[]))"
    " ORDER BY subject"
)
RELEASE = text("DELETE FROM quarantine WHERE subject = ANY(:subjects)")
RESOLVE = text(
    "UPDATE findings SET resolved_at = clock_timestamp()"
    " WHERE class = 'quarantined' AND resolved_at IS NULL AND subject = ANY(:subjects)"
)
