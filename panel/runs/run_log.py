"""The log of runs, their findings, and the figures that the gate needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, insert, text, update

from panel.journal import rows
from panel.runs.finding_resolution import Reach, resolve_findings
from panel.schema import tables


def begin_run(engine: Engine, kind: str, trigger: str, epoch: int) -> tuple[int, datetime]:
    """Open a run. Earlier runs that never ended were killed, so they are marked abandoned."""
    runs = tables.runs
    with engine.begin() as connection:
        connection.execute(
            update(runs)
            .where(runs.c.state == "running", runs.c.epoch < epoch)
            .values(state="abandoned", finished_at=text("clock_timestamp()"))
        )
        row = connection.execute(
            insert(runs)
            .values(kind=kind, trigger=trigger, epoch=epoch, state="running")
            .returning(runs.c.id, runs.c.started_at)
        ).one()
    return row.id, row.started_at


def end_run(
    engine: Engine,
    run_id: int,
    state: str,
    counts: Mapping[str, Any],
    problems: Sequence[str],
    plan_hash: str | None = None,
    error: str | None = None,
) -> None:
    """Close a run with its counts. If another run has marked it abandoned, it stays abandoned."""
    runs = tables.runs
    with engine.begin() as connection:
        connection.execute(
            update(runs)
            .where(runs.c.id == run_id, runs.c.state == "running")
            .values(
                state=state,
                finished_at=text("clock_timestamp()"),
                counts=dict(counts),
                problems=list(problems),
                plan_hash=plan_hash,
                error=error,
            )
        )


def report_findings(
    connection: Connection, run_id: int, found: Iterable[Any], reach: Reach | None = None, left_out: Iterable[str] = ()
) -> int:
    """Open or refresh findings; within ``reach``, if given, resolve those that were not found again.

    ``found``: values with class_, subject, reason, severity and ids. ``left_out``: subjects (``vps:12``) that the run
    did not look at. Returns how many are open.
    """
    raised = [
        rows.Raised(f.class_, f.subject, f.reason, f.severity, f.vps_id, f.order_id, f.cluster, f.vmid, run_id)
        for f in found
    ]
    rows.raise_findings(connection, raised)
    if reach is not None:
        resolve_findings(connection, {(one.class_, one.subject) for one in raised}, reach, left_out)
    return connection.scalar(text("SELECT count(*) FROM findings WHERE resolved_at IS NULL")) or 0


def unconfirmed_subjects(connection: Connection) -> frozenset[str]:
    """Subjects that an earlier run wanted to change but could not confirm, and that are still open."""
    return frozenset(row.subject for row in connection.execute(text(UNCONFIRMED)))


def pushed_deletes(connection: Connection) -> int:
    """How many records the main site's own calls deleted within the last hour."""
    return connection.scalar(text(PUSHED_DELETES)) or 0


PUSHED_DELETES = (
    "SELECT count(*) FROM operations WHERE kind = 'sync' AND action = 'delete' AND state = 'applied'"
    " AND applied_at > statement_timestamp() - interval '1 hour'"
)
"""The statement's own clock: an index cannot be searched with a clock that moves on from row to row."""

UNCONFIRMED = "SELECT subject FROM findings WHERE class = 'not-confirmed' AND resolved_at IS NULL"
