"""Puts guests in doubt by the rules of ``domain.identity_doubts``, as one statement for each read that is merged.

A guest in doubt is ``stale``, with the reason and the time. It stays so until a read of its configuration that was
asked for after that time. Only guests with a new doubt are written: a quiet fleet costs no writes here.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from domain.guests import IDENTITY_TAG
from domain.identity_doubts import LOOKED_AT, Doubt
from panel.observations.proof import PROVEN


def doubt_listed(connection: Connection) -> int:
    """Put in doubt the guests whose identity the compared lists do not prove, or contradict. Returns how many. Call it
    before the lists are merged. A configuration that was asked for before the end of the cluster's answer may be the
    one of the machine before, so it ends no doubt that this list raises."""
    return connection.execute(text(DOUBT_LISTED)).rowcount


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
    doubt_guests(connection, [(cluster, vmid)], why)


def doubt_guests(connection: Connection, addresses: Sequence[tuple[str, int]], why: Doubt) -> None:
    """The same for several guests."""
    if addresses:
        values = {"clusters": [a[0] for a in addresses], "vmids": [a[1] for a in addresses], "why": why.value}
        connection.execute(text(DOUBT_GUESTS), values)


# A guest without an identity tag keeps the signature that it had before the panel read such tags.
_MARKS = (
    "CASE WHEN strpos(array_to_string(s.tags, ' '), 'pnl-') > 0 THEN"  # cheap test first: few guests have a tag
    f" (SELECT string_agg(DISTINCT t, ',') FROM unnest(s.tags) AS t WHERE t ~ '{IDENTITY_TAG}') END"
)
SIGNATURE = f"md5(concat_ws('|', s.name, s.guest_type, s.node, s.memory_mb, s.cores, {_MARKS}))"
"""What a list shows of staged guest ``s`` and rarely changes by itself."""

_STATES = ", ".join(f"'{state.value}'" for state in LOOKED_AT)
_LOOKED_AT = f"g.fingerprint_state IN ({_STATES})"

# A read in the future is of a clock that was set back since.
_GOES_ON = (
    "(c.answered - make_interval(secs => s.uptime_s) <= g.fingerprint_read_at AND g.fingerprint_read_at <= c.answered)"
    " IS TRUE"
)

# The row comparison is cheap. Where it finds nothing, the signature is the same, too.
_SIGNED = ("name", "guest_type", "node", "memory_mb", "cores", "tags")
_OTHER_SIGNATURE = (
    f"(({', '.join(f'g.{c}' for c in _SIGNED)}) IS DISTINCT FROM ({', '.join(f's.{c}' for c in _SIGNED)})"
    f" AND g.signature <> {SIGNATURE})"
)

LISTED = f"""CASE
  WHEN g.unlisted_since IS NOT NULL OR a.subject IS NOT NULL THEN '{Doubt.UNLISTED}'
  WHEN {_OTHER_SIGNATURE} OR g.template <> s.template THEN '{Doubt.CHANGED}'
  WHEN s.uptime_s IS NOT NULL THEN CASE WHEN NOT {_GOES_ON} THEN '{Doubt.STARTED}' END
  WHEN g.disk_gb IS DISTINCT FROM s.disk_gb THEN '{Doubt.CHANGED}'
  WHEN g.power <> s.power THEN '{Doubt.POWER}'
  WHEN c.gap THEN '{Doubt.GAP}' END"""
"""Why staged guest ``s`` is to be doubted, known as ``g`` with absence ``a``, by the list ``c``."""

# What a list shows puts only a guest in doubt that was read. Whether it was is asked here, of the row as it is now.
DOUBT_LISTED = f"""
UPDATE guests g SET fingerprint_state = 'stale', doubt = n.why, doubted_at = n.answered
FROM listed_news n WHERE n.why IS NOT NULL AND g.cluster = n.cluster AND g.vmid = n.vmid AND {_LOOKED_AT}
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

DOUBT_GUESTS = f"""{_DOUBT} :why
FROM unnest(CAST(:clusters AS text[]), CAST(:vmids AS integer[])) AS n(cluster, vmid)
WHERE g.cluster = n.cluster AND g.vmid = n.vmid
"""

_OTHER_ORDER = f"""
x.cluster = r.cluster AND x.vmid = r.vmid AND x.order_id IS DISTINCT FROM r.order_id AND x.state <> 'ended'
AND (x.unlisted_since IS NULL OR NOT coalesce(
  (SELECT {PROVEN} FROM absences a WHERE a.kind = 'order' AND a.subject = x.order_id), false))
"""
_OWN_ORDER = "o.order_id = r.order_id AND o.state <> 'ended' AND o.unlisted_since IS NULL"
SOLD_ON = f"""(EXISTS (SELECT 1 FROM orders_seen x WHERE {_OTHER_ORDER})
  AND NOT EXISTS (SELECT 1 FROM orders_seen o WHERE {_OWN_ORDER}))"""
"""Another order that has not ended and is not proven gone names the guest of record ``r``, and the record's own order
has ended or was missed. The guest may be the next customer's by now. It takes the values of a ``Proof``."""

ALL_SOLD_ON = f"""
WITH contested AS MATERIALIZED (
  SELECT r.id, r.order_id FROM vps r JOIN orders_seen x ON {_OTHER_ORDER} WHERE r.deleted_at IS NULL)
SELECT r.id FROM contested r WHERE NOT EXISTS (SELECT 1 FROM orders_seen o WHERE {_OWN_ORDER})
"""
"""The ids of all records that are ``SOLD_ON``."""
