"""Which configurations to read next: of guests that are new, changed, in doubt or not read for long.

Nodes take turns. On each node the guest that was asked about longest ago comes first, answered or not. So guests of a
node that does not answer do not block the others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from domain.config_read_delays import Waiting
from domain.guests import GuestType


@dataclass(frozen=True, slots=True)
class WantedConfig:
    """A guest whose configuration should be read. ``changed_at``: when a list last showed something new of it."""

    node: str
    guest_type: GuestType
    vmid: int
    changed_at: datetime


def fingerprint_wants(
    connection: Connection, cluster: str, limit: int, away: Collection[str], not_since: datetime
) -> list[WantedConfig]:
    """Guests of the staged list to ask about now, those that matter to records first.

    ``away``: nodes whose guests cannot be asked about. ``not_since``: when this run began to read ahead. Guests asked
    about after that wait, because a second read counts as one only in another run.
    """
    values = {"cluster": cluster, "limit": limit, "away": sorted(away), "not_since": not_since}
    return _wanted(connection, FINGERPRINT_WANTS, values)


def doubted_wants(connection: Connection, cluster: str, limit: int, away: Collection[str]) -> list[WantedConfig]:
    """Guests in doubt of the staged list that belong to records. First come those that would change a record now."""
    return _wanted(connection, DOUBTED_WANTS, {"cluster": cluster, "limit": limit, "away": sorted(away)})


def wants_ahead(connection: Connection, cluster: str, limit: int) -> list[WantedConfig]:
    """New or changed guests to read before this run's own lists, those that matter to records first.

    A guest without a known power state is left to the run itself: its node may be away, as the run's lists will show.
    """
    return _wanted(connection, WANTS_AHEAD, {"cluster": cluster, "limit": limit})


def rolling_wants(connection: Connection, cluster: str, limit: int, a_minute: int) -> list[WantedConfig]:
    """Guests to ask about between runs: those in doubt, then those asked about longest ago, records' own first,
    and none that was asked about within 5 minutes. At most as many that all reads of the cluster together stay within
    ``a_minute`` per minute."""
    return _wanted(connection, ROLLING_WANTS, {"cluster": cluster, "limit": limit, "a_minute": a_minute})


def note_unanswered(connection: Connection, cluster: str, vmid: int, at: datetime) -> None:
    """The guest was asked about and the answer gave nothing to keep: next time other guests come first."""
    connection.execute(text(NOTE_UNANSWERED), {"cluster": cluster, "vmid": vmid, "at": at})


def longest_waiting(
    connection: Connection, clusters: Collection[str], away: Collection[tuple[str, str]], grace: timedelta
) -> list[Waiting]:
    """The clusters, among these, where guests of orders or records have waited longer than ``grace``, and since when.
    ``away``: (cluster, node) pairs whose guests cannot be asked about."""
    values = {"clusters": sorted(clusters), "away": sorted("/".join(one) for one in away), "grace": grace}
    return [Waiting(row.cluster, row.since) for row in connection.execute(text(LONGEST_WAITING), values)]


def _wanted(connection: Connection, statement: str, values: dict[str, object]) -> list[WantedConfig]:
    rows = connection.execute(text(statement), values)
    return [WantedConfig(row.node, GuestType(row.guest_type), row.vmid, row.changed_at) for row in rows]


_ASKED = "greatest(g.fingerprint_read_at, g.fingerprint_tried_at)"
_RECORDS = (
    "LEFT JOIN vps r ON r.cluster = g.cluster AND r.vmid = g.vmid AND r.deleted_at IS NULL"
    # joined only if the guest's size differs from what was sold
    " LEFT JOIN guest_configs c ON c.cluster = g.cluster AND c.vmid = g.vmid AND c.fingerprint = r.fingerprint"
    " AND (c.cores <> r.cpu OR c.memory_mb <> r.ram_mb OR c.disk_gb <> r.disk_gb)"
)
_OLD = (
    "(g.fingerprint_state = 'read' AND (g.fingerprint_read_at < clock_timestamp() - interval '1 day'"
    " OR coalesce(c.read_at < clock_timestamp() - interval '1 hour', false)))"
)

# A template without a record is asked about once: a sold machine may have become a template at another address.
_ASKABLE = "(NOT g.template OR r.id IS NOT NULL OR g.fingerprint_state IN ('unread', 'stale'))"

# Guests that were refused (403) come last. Otherwise some dozens of them would keep new ones waiting.
_IN_TURN = f"""
ORDER BY (g.fingerprint_state = 'forbidden'), (r.id IS NULL), {_OLD},
  row_number() OVER (PARTITION BY r.id IS NULL, {_OLD}, g.node ORDER BY {_ASKED} NULLS FIRST, g.vmid), g.vmid
LIMIT :limit
"""

WANTS_AHEAD = f"""
SELECT g.node, g.guest_type, g.vmid, g.changed_at FROM guests g {_RECORDS}
WHERE g.cluster = :cluster AND {_ASKABLE} AND g.power <> 'unknown'
  AND g.fingerprint_state IN ('unread', 'stale')
  AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid)
{_IN_TURN}
"""  # noqa: S608 - own text

FINGERPRINT_WANTS = f"""
SELECT g.node, g.guest_type, g.vmid, g.changed_at
FROM guests g JOIN stage_guests s ON s.cluster = g.cluster AND s.vmid = g.vmid {_RECORDS}
WHERE g.cluster = :cluster AND {_ASKABLE} AND NOT g.node = ANY(:away)
  AND ({_ASKED} < CAST(:not_since AS timestamptz)) IS NOT FALSE
  AND (g.fingerprint_state IN ('unread', 'stale') OR {_OLD}
       OR ((g.fingerprint_state = 'forbidden' OR (g.fingerprint IS NULL AND r.fingerprint IS NOT NULL))
           AND g.fingerprint_read_at < clock_timestamp() - interval '10 minutes')
       OR (r.order_state = 'ended' AND g.fingerprint_read_at < clock_timestamp() - interval '30 minutes')
       OR (g.previous_fingerprint IS NOT NULL AND g.fingerprint_seen < 2)
       OR (r.fingerprint IS NOT NULL AND r.fingerprint <> g.fingerprint AND g.fingerprint_seen < 2))
{_IN_TURN}
"""  # noqa: S608 - own text

DOUBTED_WANTS = f"""
SELECT g.node, g.guest_type, g.vmid, g.changed_at
FROM guests g JOIN stage_guests s ON s.cluster = g.cluster AND s.vmid = g.vmid
JOIN vps r ON r.cluster = g.cluster AND r.vmid = g.vmid AND r.deleted_at IS NULL
WHERE g.cluster = :cluster AND NOT g.node = ANY(:away) AND g.fingerprint_state = 'stale' AND g.power <> 'unknown'
  AND r.link_state = 'verified'
ORDER BY (g.power = r.power_state AND g.node = r.node), {_ASKED} NULLS FIRST, g.vmid LIMIT :limit
"""  # noqa: S608 - own text

ROLLING_WANTS = f"""
SELECT g.node, g.guest_type, g.vmid, g.changed_at FROM guests g
LEFT JOIN vps r ON r.cluster = g.cluster AND r.vmid = g.vmid AND r.deleted_at IS NULL
WHERE g.cluster = :cluster AND {_ASKABLE} AND g.power <> 'unknown'
  AND (g.fingerprint_state IN ('unread', 'stale')
       OR ({_ASKED} < clock_timestamp() - interval '5 minutes') IS NOT FALSE)
  AND ({_ASKED} < clock_timestamp() - interval '10 seconds') IS NOT FALSE
  AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid)
ORDER BY (g.fingerprint_state IN ('read', 'forbidden')), (r.id IS NULL) AND g.fingerprint_state IN ('unread', 'stale'),
  {_ASKED} NULLS FIRST, g.vmid
LIMIT least(:limit, greatest(0, :a_minute - (
  SELECT count(*) FROM guests g WHERE g.cluster = :cluster AND {_ASKED} > clock_timestamp() - interval '1 minute')))
"""  # noqa: S608 - own text

NOTE_UNANSWERED = "UPDATE guests SET fingerprint_tried_at = :at WHERE cluster = :cluster AND vmid = :vmid"

# A guest that was never read has waited since it changed; a doubt about it is nothing new.
_SINCE = "CASE g.fingerprint_state WHEN 'unread' THEN g.changed_at ELSE greatest(g.changed_at, g.doubted_at) END"

LONGEST_WAITING = f"""
SELECT g.cluster, min({_SINCE}) AS since FROM guests g
WHERE g.cluster = ANY(CAST(:clusters AS text[])) AND g.fingerprint_state IN ('unread', 'stale')
  AND g.unlisted_since IS NULL AND g.power <> 'unknown' AND NOT g.cluster || '/' || g.node = ANY(CAST(:away AS text[]))
  AND {_SINCE} <= clock_timestamp() - CAST(:grace AS interval) AND (g.fingerprint_tried_at >= {_SINCE}) IS NOT TRUE
  AND (EXISTS (SELECT 1 FROM vps r WHERE r.cluster = g.cluster AND r.vmid = g.vmid AND r.deleted_at IS NULL)
       OR EXISTS (SELECT 1 FROM orders_seen o WHERE o.cluster = g.cluster AND o.vmid = g.vmid AND o.state <> 'ended'))
GROUP BY g.cluster
"""  # noqa: S608 - own text
