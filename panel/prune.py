"""Let go of bookkeeping that nobody will ask for any more. Records, the journal and evidence stay.

A fast lane of 15 s leaves thousands of reads a day; what a deletion rests on is marked ``kept`` and never goes.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine, TextClause, text

BATCH = 10_000
"""Rows per statement, so that no lock is held for long."""

BATCHES = 50
"""Statements per table and call; the next hour takes what is left."""

PRUNED = {
    "idempotency_keys": "created_at < clock_timestamp() - interval '48 hours'",
    # A changing set leaves one with every run; what an operator decided stays.
    "holds": "decision = 'expired' AND decided_at < clock_timestamp() - interval '14 days'",
    "snapshots": (
        "finished_at < clock_timestamp() - interval '14 days' AND NOT kept"
        " AND NOT EXISTS (SELECT 1 FROM scopes s WHERE s.snapshot_id = t.id)"
        " AND NOT EXISTS (SELECT 1 FROM absences a WHERE t.id = ANY(a.evidence))"
    ),
    "runs": (
        "started_at < clock_timestamp() - interval '14 days'"
        " AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.run_id = t.id)"
        " AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.run_id = t.id)"
        " AND NOT EXISTS (SELECT 1 FROM findings f WHERE f.last_run_id = t.id)"
        " AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.last_run_id = t.id)"
        " AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.run_id = t.id)"
        " AND NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.last_run_id = t.id)"
    ),
}
"""Table -> what may go. In this order: runs go once their snapshots are gone."""

AUDIT = ("refused_calls", "access_counts", "operator_actions")
"""What was done and tried: the application has no right to delete it. The database's own function does, by an age that
stands in it (migration 0007: 90, 90 and 400 days)."""


def prune(engine: Engine) -> dict[str, int]:
    """Delete what is old enough; how many rows per table."""
    counts = {table: _in_batches(engine, AUDIT_PRUNED, {"audit": table, "most": BATCH}) for table in AUDIT}
    for table, condition in PRUNED.items():
        statement = text(
            f"WITH gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY("  # noqa: S608 - this module's own constants
            f"SELECT t.ctid FROM {table} t WHERE {condition} LIMIT :most)) RETURNING 1) SELECT count(*) FROM gone"
        )
        counts[table] = _in_batches(engine, statement, {"most": BATCH})
    return counts


def _in_batches(engine: Engine, statement: TextClause, values: Mapping[str, object]) -> int:
    total = 0
    for _ in range(BATCHES):
        with engine.begin() as connection:
            gone = connection.scalar(statement, values) or 0
        total += gone
        if gone < BATCH:
            break
    return total


AUDIT_PRUNED = text("SELECT public.prune_audit(:audit, :most)")
