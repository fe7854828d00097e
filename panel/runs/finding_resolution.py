"""Resolves the findings that a run did not find again although it looked.

Only a finding's own cluster and the feed matter: a node that is offline or a cluster that hangs keeps no other
cluster's finding open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a run's silence means something. ``orders``: the feed was read without a problem, or there is none.
    ``clusters``: the configured ones. ``believed``: those whose list was read and lost nothing unusual. ``away``:
    (cluster, node) pairs whose guests are unknown now."""

    orders: bool
    clusters: frozenset[str]
    believed: frozenset[str]
    away: frozenset[tuple[str, str]]


def resolve_findings(
    connection: Connection, found: Collection[tuple[str, str]], reach: Reach, left_out: Iterable[str]
) -> int:
    """Resolve the findings that the run would have found and did not; how many. ``found``: (class, subject) of all that
    it found. ``left_out``: subjects (``vps:12``) that it did not look at.

    A finding without a cluster may be about any cluster.
    """
    if not reach.orders:
        return 0
    values = {
        "classes": [class_ for class_, _ in found],
        "subjects": [subject for _, subject in found],
        "left": sorted(left_out),
        "whole": reach.believed >= reach.clusters,
        "unread": sorted(reach.clusters - reach.believed),
        "away": sorted(f"{cluster}/{node}" for cluster, node in reach.away),
    }
    return connection.execute(RESOLVE, values).rowcount


def not_selected_subjects(connection: Connection) -> frozenset[str]:
    """Subjects of open findings whose record, order or guest is a candidate that this run did not draw. For a cut run,
    while its selection stands."""
    return frozenset(row.subject for row in connection.execute(UNDRAWN))


RESOLVE = text("""
UPDATE findings f SET resolved_at = clock_timestamp()
WHERE f.resolved_at IS NULL AND f.class NOT IN ('paused', 'quarantined', 'source', 'held', 'lane-late')
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

UNDRAWN = text("""
SELECT f.subject FROM findings f
WHERE f.resolved_at IS NULL AND (
  EXISTS (SELECT 1 FROM vps r WHERE r.id = f.vps_id AND r.deleted_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM settled s WHERE s.id = r.id)
    AND NOT EXISTS (SELECT 1 FROM pick_records p WHERE p.id = r.id))
  OR EXISTS (SELECT 1 FROM orders_seen o WHERE o.order_id = f.order_id
    AND NOT EXISTS (SELECT 1 FROM settled s WHERE s.order_id = o.order_id)
    AND NOT EXISTS (SELECT 1 FROM pick_orders p WHERE p.order_id = o.order_id))
  OR EXISTS (SELECT 1 FROM stage_guests g WHERE g.cluster = f.cluster AND g.vmid = f.vmid
    AND NOT EXISTS (SELECT 1 FROM settled s WHERE s.cluster = g.cluster AND s.vmid = g.vmid)
    AND NOT EXISTS (SELECT 1 FROM pick_guests p WHERE p.cluster = g.cluster AND p.vmid = g.vmid)))
""")
