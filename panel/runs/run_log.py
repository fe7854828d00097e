"""The log of runs, their findings, and the figures that the gate needs.

A finding that a run did not find again, although it looked, is resolved. Only the finding's own cluster and the feed
matter: a node that is offline or a cluster that hangs keeps no other cluster's finding open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, insert, text, update

from domain.changes import Finding
from panel.journal import rows
from panel.schema import tables


@dataclass(frozen=True, slots=True)
class Coverage:
    """Where a run looked, so that a finding that it did not report again is over. ``orders``: the feed was read without
    a problem, or there is no feed. ``clusters``: the configured ones. ``believed``: clusters whose list was read and
    did not lack unusually much. ``away``: (cluster, node) pairs whose guests are not known now."""

    orders: bool
    clusters: frozenset[str]
    believed: frozenset[str]
    away: frozenset[tuple[str, str]]


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
    connection: Connection,
    run_id: int,
    found: Sequence[Finding],
    coverage: Coverage | None = None,
    left_out: Iterable[str] = (),
) -> int:
    """Open or refresh findings; within ``coverage``, if given, resolve those that were not found again.

    ``left_out``: subjects (``vps:12``) that the run did not look at. Returns how many are open.
    """
    rows.raise_findings(connection, found, run_id)
    if coverage is not None:
        resolve_findings(connection, {(finding.class_, finding.subject) for finding in found}, coverage, left_out)
    return connection.scalar(text("SELECT count(*) FROM findings WHERE resolved_at IS NULL")) or 0


def resolve_findings(
    connection: Connection, found: Collection[tuple[str, str]], coverage: Coverage, left_out: Iterable[str]
) -> int:
    """Resolve the findings that the run would have found again but did not. Returns how many. ``found``: (class,
    subject) of all that it found. ``left_out``: subjects (``vps:12``) that it did not look at.

    A finding without a cluster may be about any cluster, so it is resolved only if all clusters are believed.
    """
    if not coverage.orders:
        return 0
    values = {
        "classes": [class_ for class_, _ in found],
        "subjects": [subject for _, subject in found],
        "left": sorted(left_out),
        "whole": coverage.believed >= coverage.clusters,
        "unread": sorted(coverage.clusters - coverage.believed),
        "away": sorted(f"{cluster}/{node}" for cluster, node in coverage.away),
    }
    return connection.execute(RESOLVE, values).rowcount


def not_selected_subjects(connection: Connection) -> frozenset[str]:
    """Subjects of open findings about records, orders or guests that differ but that this run did not select. It is for
    a cut run, and needs the temporary tables of its selection."""
    return frozenset(row.subject for row in connection.execute(NOT_SELECTED))


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
"""It uses statement_timestamp(): with clock_timestamp(), which changes from row to row, no index can be searched."""

UNCONFIRMED = "SELECT subject FROM findings WHERE class = 'not-confirmed' AND resolved_at IS NULL"

RESOLVE = text("""
UPDATE findings f SET resolved_at = clock_timestamp()
WHERE f.resolved_at IS NULL
  AND f.class NOT IN ('paused', 'quarantined', 'source', 'held', 'lane-late', 'webhook-disabled')
  AND NOT EXISTS (SELECT 1 FROM unnest(CAST(:classes AS text[]), CAST(:subjects AS text[])) AS found(class, subject)
                  WHERE found.class = f.class AND found.subject = f.subject)
  AND NOT coalesce(ARRAY[f.subject, 'vps:' || f.vps_id, 'order:' || f.order_id] && CAST(:left AS text[]), false)
  AND CASE WHEN f.cluster IS NULL THEN :whole ELSE NOT f.cluster = ANY(CAST(:unread AS text[])) END
  AND NOT EXISTS (
    SELECT 1 FROM guests g WHERE g.cluster = f.cluster AND g.vmid = f.vmid
      AND g.cluster || '/' || g.node = ANY(CAST(:away AS text[])))
  AND NOT (f.class = 'link-conflict' AND f.vmid IS NULL AND EXISTS (
    SELECT 1 FROM vps r WHERE r.id = f.vps_id AND r.deleted_at IS NULL AND r.order_id IS NULL))
""")

NOT_SELECTED = text("""
SELECT f.subject FROM findings f
WHERE f.resolved_at IS NULL AND (
  EXISTS (SELECT 1 FROM vps r WHERE r.id = f.vps_id AND r.deleted_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM converged s WHERE s.id = r.id)
    AND NOT EXISTS (SELECT 1 FROM pick_records p WHERE p.id = r.id))
  OR EXISTS (SELECT 1 FROM orders_seen o WHERE o.order_id = f.order_id
    AND NOT EXISTS (SELECT 1 FROM converged s WHERE s.order_id = o.order_id)
    AND NOT EXISTS (SELECT 1 FROM pick_orders p WHERE p.order_id = o.order_id))
  OR EXISTS (SELECT 1 FROM stage_guests g WHERE g.cluster = f.cluster AND g.vmid = f.vmid
    AND NOT EXISTS (SELECT 1 FROM converged s WHERE s.cluster = g.cluster AND s.vmid = g.vmid)
    AND NOT EXISTS (SELECT 1 FROM pick_guests p WHERE p.cluster = g.cluster AND p.vmid = g.vmid)))
""")
