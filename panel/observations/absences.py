"""Counts how often complete reads missed an object, until it is proven gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from domain.absences import Absence
from domain.guests import GuestKey
from panel.observations.identity_doubts import doubt_by_absent_orders
from panel.observations.proof import Proof


def count_absent_guests(
    connection: Connection,
    run_id: int,
    snapshot_ids: Mapping[tuple[str, str], int],
    began_at: datetime,
    proof: Proof,
) -> None:
    """Count one more complete read that missed guests which used to be there, of the lists that were compared last.
    ``snapshot_ids``: by cluster and complete node."""
    values = {"run": run_id, "began": began_at, "snapshots": list(snapshot_ids.values())}
    values |= {"clusters": [cluster for cluster, _ in snapshot_ids], "nodes": [node for _, node in snapshot_ids]}
    connection.execute(text(ABSENT_GUESTS), values | asdict(proof))


def scopes_with_missing_orders(
    connection: Connection, scopes: Sequence[str], effective_at: datetime, proof: Proof
) -> list[str]:
    """The users' scopes, among these, that lack a known order which is not yet proven gone."""
    values = {"scopes": list(scopes), "effective": effective_at} | asdict(proof)
    rows = connection.execute(text(SCOPES_WITH_MISSING), values)
    return [row.scope for row in rows]


def count_absent_orders(
    connection: Connection, run_id: int, snapshot_ids: Mapping[str, int], effective_at: datetime, proof: Proof
) -> None:
    """Count one more complete sweep that missed known orders. Scopes: "all" alone, or "user:<id>". ``effective_at``:
    of when its content is; an order that was seen later is not missing."""
    values = {"run": run_id, "scopes": list(snapshot_ids), "snapshots": list(snapshot_ids.values())}
    values |= {"whole": "all" in snapshot_ids, "effective": effective_at}
    connection.execute(text(ABSENT_ORDERS), values | asdict(proof))
    doubt_by_absent_orders(connection, run_id)


def load_absences(connection: Connection) -> tuple[dict[str, Absence], dict[GuestKey, Absence]]:
    """The absences of the orders and guests that this run loads."""
    orders: dict[str, Absence] = {}
    guests: dict[GuestKey, Absence] = {}
    for row in connection.execute(text(LOAD_ABSENCES)):
        absence = _absence(row)
        if row.kind == "order":
            orders[row.subject] = absence
        else:
            cluster, _, vmid = row.subject.rpartition("/")
            guests[GuestKey(cluster, int(vmid))] = absence
    return orders, guests


def control_order(connection: Connection, *, other_than: str) -> str | None:
    """An order known to exist. A look-up of it tells "that order is gone" from "the feed answers nothing"."""
    order_id: str | None = connection.scalar(text(CONTROL_ORDER), {"other": other_than})
    return order_id


def _absence(row: Any) -> Absence:  # noqa: ANN401 - a Row
    missed_at = max(row.last_absent_at, row.read_without or row.last_absent_at)
    return Absence(row.absent_since, row.consecutive, missed_at, tuple(row.evidence))


# An absence from before the record's last change proves nothing against it, so the count starts again.
_ORDER_ANEW = """a.absent_since <= (SELECT greatest(r.order_changed_at, r.link_changed_at) FROM vps r
                   WHERE r.order_id = a.subject AND r.deleted_at IS NULL)"""
_GUEST_ANEW = """a.absent_since <= (SELECT max(r.link_changed_at) FROM vps r WHERE r.deleted_at IS NULL
                   AND r.cluster = split_part(a.subject, '/', 1)
                   AND r.vmid = CAST(split_part(a.subject, '/', 2) AS int))"""


# A finished proof is not written again: further misses prove nothing new, and an untouched row costs nothing. ABSENCES
# below takes the time of the last miss from the last complete read of the guest's node.
def _unproven(anew: str) -> str:
    return f"""(a.subject IS NULL OR a.consecutive < CAST(:times AS int)
       OR a.last_absent_at - a.absent_since < CAST(:period AS interval) OR {anew})"""


def _count(anew: str) -> str:
    return f"""
ON CONFLICT (kind, subject) DO UPDATE SET
  absent_since = CASE WHEN {anew} THEN excluded.absent_since ELSE a.absent_since END,
  consecutive = CASE WHEN {anew} THEN 1 ELSE a.consecutive + 1 END,
  evidence = CASE WHEN {anew} THEN excluded.evidence
                  ELSE a.evidence[greatest(1, cardinality(a.evidence) - 8):] || excluded.evidence END,
  last_absent_at = excluded.last_absent_at, last_run_id = excluded.last_run_id
WHERE a.last_run_id <> excluded.last_run_id AND a.last_absent_at < excluded.last_absent_at
"""


ABSENT_GUESTS = f"""
INSERT INTO absences AS a (kind, subject, absent_since, consecutive, last_absent_at, last_run_id, evidence)
SELECT 'guest', g.cluster || '/' || g.vmid, :began, 1, :began, :run, ARRAY[n.snapshot]
FROM listed_lacking l JOIN guests g ON g.cluster = l.cluster AND g.vmid = l.vmid
JOIN unnest(CAST(:clusters AS text[]), CAST(:nodes AS text[]), CAST(:snapshots AS bigint[]))
  AS n(cluster, node, snapshot) ON n.cluster = g.cluster AND n.node = g.node
LEFT JOIN absences a ON a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid
WHERE {_unproven(_GUEST_ANEW)}
{_count(_GUEST_ANEW)}
"""

_MISSING_ORDERS = f"""
(SELECT o.order_id, o.owner
 FROM (SELECT o.order_id, o.owner, o.effective_at FROM orders_seen o WHERE o.state <> 'ended'
       UNION SELECT o.order_id, o.owner, o.effective_at FROM vps r JOIN orders_seen o ON o.order_id = r.order_id
       WHERE r.deleted_at IS NULL) o
 LEFT JOIN absences a ON a.kind = 'order' AND a.subject = o.order_id
 WHERE {_unproven(_ORDER_ANEW)} AND (o.effective_at > :effective) IS NOT TRUE
   AND NOT EXISTS (SELECT 1 FROM stage_orders s WHERE s.order_id = o.order_id)) o
"""

SCOPES_WITH_MISSING = f"""
SELECT DISTINCT 'user:' || o.owner AS scope FROM {_MISSING_ORDERS}
WHERE 'user:' || o.owner = ANY(CAST(:scopes AS text[]))
"""

ABSENT_ORDERS = f"""
INSERT INTO absences AS a (kind, subject, absent_since, consecutive, last_absent_at, last_run_id, evidence)
SELECT 'order', o.order_id, :effective, 1, :effective, :run, ARRAY[c.snapshot]
FROM {_MISSING_ORDERS}
JOIN unnest(CAST(:scopes AS text[]), CAST(:snapshots AS bigint[])) AS c(scope, snapshot)
  ON c.scope = CASE WHEN :whole THEN 'all' ELSE 'user:' || o.owner END
{_count(_ORDER_ANEW)}
"""

# Later misses of a finished proof are not counted, but the last complete read of the guest's node missed it, too.
ABSENCES = """
SELECT a.*, (SELECT c.began_at FROM guests g JOIN scopes c ON c.source = 'proxmox:' || g.cluster AND c.scope = g.node
  WHERE a.kind = 'guest' AND c.began_at <= statement_timestamp() AND g.cluster = split_part(a.subject, '/', 1)
    AND g.vmid = CAST(split_part(a.subject, '/', 2) AS int)) AS read_without
FROM absences a
"""
LOAD_ABSENCES = """
SELECT a.*, CAST(NULL AS timestamptz) AS read_without
FROM pick_orders p JOIN absences a ON a.kind = 'order' AND a.subject = p.order_id
UNION ALL
SELECT a.*, c.began_at FROM pick_guests p JOIN absences a ON a.kind = 'guest' AND a.subject = p.cluster || '/' || p.vmid
LEFT JOIN guests g ON g.cluster = p.cluster AND g.vmid = p.vmid
LEFT JOIN scopes c ON c.source = 'proxmox:' || g.cluster AND c.scope = g.node
  AND c.began_at <= statement_timestamp()  -- else it is of a clock that was set back, and proves no time
"""

# The orders that may serve as a control: listed, not ended, and in a state that the panel knows.
_LISTED_ORDERS = """
SELECT o.order_id FROM orders_seen o
WHERE o.state IN ('active', 'pending', 'suspended') AND o.order_id <> :other
  AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'order' AND a.subject = o.order_id)
"""
CONTROL_ORDER = f"""
SELECT coalesce(
  ({_LISTED_ORDERS} AND o.effective_at IS NOT NULL ORDER BY o.effective_at DESC LIMIT 1), ({_LISTED_ORDERS} LIMIT 1))
"""
