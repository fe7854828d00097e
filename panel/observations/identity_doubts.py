"""Puts guests in doubt by the rules of ``domain.identity_doubts``, as one statement for each read that is merged.

A guest in doubt is ``stale``, with the reason and the time. It stays so until a read of its configuration that was
asked for after that time. Only guests with a new doubt are written: a quiet fleet costs no writes here.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from domain.guests import IDENTITY_TAG
from domain.identity_doubts import LOOKED_AT, Doubt
from panel.observations.proof import PROVEN


def doubt_listed(
    connection: Connection,
    cluster: str,
    began: datetime,
    answered: datetime,
    previous: datetime | None,
    gap: timedelta,
) -> int:
    """Put in doubt the guests whose identity the staged list does not prove, or contradicts. Returns how many. Call it
    before the list is merged. ``answered``: a time not earlier than the end of the cluster's answer. A configuration
    that was asked for before that may be the one of the machine before, so it ends no doubt that this list raises."""
    long_ago = previous is None or began - previous > gap
    values = {"cluster": cluster, "answered": answered, "gap": long_ago}
    return connection.execute(text(DOUBT_LISTED), values).rowcount


def doubt_by_orders(connection: Connection, feed: str) -> int:
    """Put in doubt the guests that a staged order begins or ceases to name, or names while it ends or comes back.
    Returns how many. Call it before the orders are merged."""
    return connection.execute(text(DOUBT_BY_ORDERS), {"feed": feed}).rowcount


def doubt_by_absent_orders(connection: Connection, run_id: int) -> int:
    """Put in doubt the guests of orders that this run misses for the first time. Returns how many."""
    return connection.execute(text(DOUBT_BY_ABSENT_ORDERS), {"run": run_id}).rowcount


def doubt_guest(connection: Connection, cluster: str, vmid: int, why: Doubt) -> None:
    """Put in doubt the guest at an address: a call named it for another record or stopped naming it, or an operator
    restored its record."""
    connection.execute(text(DOUBT_GUEST), {"cluster": cluster, "vmid": vmid, "why": why.value})


# A guest without an identity tag keeps the signature that it had before the panel read such tags.
_MARKS = (
    "CASE WHEN strpos(array_to_string(s.tags, ' '), 'pnl-') > 0 THEN"  # cheap test first: few guests have a tag
    f" (SELECT string_agg(DISTINCT t, ',') FROM unnest(s.tags) AS t WHERE t ~ '{IDENTITY_TAG}') END"
)
SIGNATURE = f"md5(concat_ws('|', s.name, s.guest_type, s.node, s.memory_mb, s.cores, {_MARKS}))"
"""What a list shows of staged guest ``s`` and rarely changes by itself."""

_STATES = ", ".join(f"'{state.value}'" for state in LOOKED_AT)
_LOOKED_AT = f"g.fingerprint_state IN ({_STATES})"

_GOES_ON = "(CAST(:answered AS timestamptz) - make_interval(secs => s.uptime_s) <= g.fingerprint_read_at) IS TRUE"

_LISTED = f"""CASE
  WHEN g.unlisted_since IS NOT NULL OR EXISTS (
    SELECT 1 FROM absences a WHERE a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid)
    THEN '{Doubt.UNLISTED}'
  WHEN g.signature <> {SIGNATURE} OR g.template <> s.template THEN '{Doubt.CHANGED}'
  WHEN s.uptime_s IS NOT NULL THEN CASE WHEN NOT {_GOES_ON} THEN '{Doubt.STARTED}' END
  WHEN g.disk_gb IS DISTINCT FROM s.disk_gb THEN '{Doubt.CHANGED}'
  WHEN g.power <> s.power THEN '{Doubt.POWER}'
  WHEN :gap THEN '{Doubt.GAP}' END"""

DOUBT_LISTED = f"""
UPDATE guests g SET fingerprint_state = 'stale', doubt = d.why, doubted_at = :answered
FROM (SELECT g.cluster, g.vmid, {_LISTED} AS why
      FROM guests g JOIN stage_guests s ON s.cluster = g.cluster AND s.vmid = g.vmid
      WHERE g.cluster = :cluster AND {_LOOKED_AT}) d
WHERE d.why IS NOT NULL AND g.cluster = d.cluster AND g.vmid = d.vmid
"""

# If its configuration is being read right now, the answer may describe the machine before the doubt.
_DOUBT = f"""
UPDATE guests g SET fingerprint_state = CASE WHEN {_LOOKED_AT} THEN 'stale' ELSE g.fingerprint_state END,
  doubted_at = clock_timestamp(), doubt ="""

# An answer older than the known one is not merged, so it raises no doubt either.
DOUBT_BY_ORDERS = f"""
WITH news AS (
  SELECT o.cluster AS before, o.vmid AS before_vmid, s.cluster, s.vmid,
    o.order_id IS NOT NULL AND o.state <> 'ended' AS named, s.state <> 'ended' AS names
  FROM stage_orders s LEFT JOIN orders_seen o ON o.order_id = s.order_id
  LEFT JOIN absences a ON a.kind = 'order' AND a.subject = s.order_id
  LEFT JOIN scopes c ON c.source = :feed AND c.scope = s.scope
  WHERE o.order_id IS NULL OR a.subject IS NOT NULL
     OR ((o.cluster, o.vmid, o.state = 'ended') IS DISTINCT FROM (s.cluster, s.vmid, s.state = 'ended')
         AND (o.effective_at IS NULL OR s.effective_at > o.effective_at)
         AND (s.effective_at < c.began_at) IS NOT TRUE))
{_DOUBT} '{Doubt.ORDER}'
FROM (SELECT before AS cluster, before_vmid AS vmid FROM news WHERE named
      UNION SELECT cluster, vmid FROM news WHERE names) n
WHERE g.cluster = n.cluster AND g.vmid = n.vmid
"""

DOUBT_BY_ABSENT_ORDERS = f"""
{_DOUBT} '{Doubt.ORDER}'
FROM absences a JOIN orders_seen o ON o.order_id = a.subject
WHERE a.kind = 'order' AND a.consecutive = 1 AND a.last_run_id = :run
  AND g.cluster = o.cluster AND g.vmid = o.vmid
"""

DOUBT_GUEST = f"{_DOUBT} :why WHERE g.cluster = :cluster AND g.vmid = :vmid"

SOLD_ON = f"""EXISTS (
  SELECT 1 FROM orders_seen x WHERE x.cluster = r.cluster AND x.vmid = r.vmid AND x.order_id IS DISTINCT FROM r.order_id
    AND x.state <> 'ended'
    AND (x.unlisted_since IS NULL OR NOT coalesce(
      (SELECT {PROVEN} FROM absences a WHERE a.kind = 'order' AND a.subject = x.order_id), false))
    AND NOT EXISTS (
      SELECT 1 FROM orders_seen o WHERE o.order_id = r.order_id AND o.state <> 'ended' AND o.unlisted_since IS NULL))"""
"""Another order that has not ended and is not proven gone names the guest of record ``r``, and the record's own order
has ended or was missed. The guest may be the next customer's by now. It takes the values of a ``Proof``."""
