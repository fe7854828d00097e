"""The records whose power state or node differs from their guest: the pairs that a fast run looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, text

from domain.failures import Broken
from domain.guests import Guest, GuestKey
from domain.records import Record
from panel.observations.candidates import TAGGED_TWICE
from panel.observations.identity_doubts import SOLD_ON
from panel.observations.loaded_candidates import parsed_guests, parsed_records
from panel.observations.proof import Proof

LIMIT = 5_000
"""Pairs per run. Each run draws them at random again."""


def load_power_drift(
    connection: Connection,
    clusters: Iterable[str],
    previous: dict[str, datetime | None],
    began: dict[str, datetime],
    copied_since: datetime,
    proof: Proof,
    broken: dict[str, Broken] | None = None,
) -> list[tuple[Record, Guest]]:
    """For a fast run: linked, identified pairs whose power or node differs, with no call in flight and no clone.

    A guest whose machine another cluster has listed since before ``copied_since`` counts as a clone.
    """
    drift = {"clusters": list(clusters), "moving": copied_since} | asdict(proof)
    rows = connection.execute(text(POWER_DRIFT), drift)
    pairs = sorted((row.record_id, row.cluster, row.vmid) for row in rows)
    if not pairs:
        return []
    values = {"ids": [p[0] for p in pairs], "clusters": [p[1] for p in pairs], "vmids": [p[2] for p in pairs]}
    rows = connection.execute(text(RECORDS_BY_ID), values)
    records = {r.id: r for r in parsed_records(rows, broken)}
    rows = connection.execute(text(GUESTS_BY_KEY), values)
    guests = {g.key: g for g in parsed_guests(rows, previous, began, broken)}
    return [(records[i], guests[GuestKey(c, v)]) for i, c, v in pairs if i in records and GuestKey(c, v) in guests]


RECORDS_BY_ID = """
SELECT r.*, (l.applied_seq < l.last_seq) AS in_flight FROM vps r JOIN vps_queues l ON l.vps_id = r.id
WHERE r.id = ANY(:ids)
"""

GUESTS_BY_KEY = """
SELECT g.* FROM guests g
JOIN unnest(CAST(:clusters AS text[]), CAST(:vmids AS int[])) AS k(cluster, vmid)
  ON k.cluster = g.cluster AND k.vmid = g.vmid
"""

# First, of all pairs at once, whether they differ. Hardly any pair does, and only for those is the rest looked up.
POWER_DRIFT = f"""
WITH different AS MATERIALIZED (
  SELECT r.id, r.cluster, r.vmid FROM vps r JOIN guests g ON g.cluster = r.cluster AND g.vmid = r.vmid
  WHERE r.deleted_at IS NULL AND ((g.power <> r.power_state AND g.power <> 'unknown') OR g.node <> r.node))
SELECT r.id AS record_id, g.cluster, g.vmid
FROM different d
JOIN vps r ON r.id = d.id
JOIN guests g ON g.cluster = d.cluster AND g.vmid = d.vmid
JOIN stage_guests s ON s.cluster = g.cluster AND s.vmid = g.vmid
JOIN vps_queues l ON l.vps_id = r.id
WHERE r.link_state = 'verified' AND l.applied_seq = l.last_seq
  AND r.order_state IN ('active', 'suspended', 'ended', 'unknown') AND g.cluster = ANY(:clusters)
  AND g.fingerprint_state = 'read' AND g.fingerprint = r.fingerprint
  AND (g.lock IS NULL OR g.lock = 'suspended')
  AND (g.moving_since IS NULL OR g.moving_since > CAST(:moving AS timestamptz))
  AND NOT EXISTS (SELECT 1 FROM guests x JOIN stage_guests y ON y.cluster = x.cluster AND y.vmid = x.vmid
                  WHERE x.cluster = g.cluster AND x.fingerprint = g.fingerprint AND x.vmid <> g.vmid AND NOT x.template)
  AND (g.cluster, g.vmid) NOT IN (SELECT cluster, vmid FROM ({TAGGED_TWICE}) twins)
  AND NOT g.template AND NOT {SOLD_ON}
ORDER BY random() LIMIT {LIMIT}
"""
