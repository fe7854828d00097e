"""Whose configuration to read next: guests that are new, changed, in doubt or not looked at for long.

Nodes take turns, and of each the guest that was asked about longest ago, answered or not, comes first: those of a node
that does not answer keep nobody else from being looked at.
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
    """A guest whose configuration should be read. ``changed_at``: when a list last told something new of it."""

    node: str
    guest_type: GuestType
    vmid: int
    changed_at: datetime


def fingerprint_wants(
    connection: Connection, cluster: str, limit: int, away: Collection[str], not_since: datetime
) -> list[WantedConfig]:
    """Guests of the staged list to be asked about now; those that matter to records first.

    ``away``: nodes whose guests nobody can be asked about. ``not_since``: when this run began to read ahead; a second
    look counts as one only in another run, so those asked about since then wait.
    """
    values = {"cluster": cluster, "limit": limit, "away": sorted(away), "not_since": not_since}
    return _wanted(connection, FINGERPRINT_WANTS, values)


def doubted_wants(connection: Connection, cluster: str, limit: int, away: Collection[str]) -> list[WantedConfig]:
    """Guests in doubt of the staged list that are records' own, those first of whom something would be written now."""
    return _wanted(connection, DOUBTED_WANTS, {"cluster": cluster, "limit": limit, "away": sorted(away)})


def wants_ahead(connection: Connection, cluster: str, limit: int) -> list[WantedConfig]:
    """Guests that are new or changed, before this run's lists are read; those that matter to records first.

    Whoever has no known power is left to the run: his node may be away, as the run's own lists will tell.
    """
    return _wanted(connection, WANTS_AHEAD, {"cluster": cluster, "limit": limit})


def rolling_wants(connection: Connection, cluster: str, limit: int, a_minute: int) -> list[WantedConfig]:
    """Guests to be asked about between the runs: those in doubt, then those that were asked about longest ago, records'
    own first; nobody who was asked within 5 minutes. Fewer, so that with all other reads there are at most ``a_minute``
    of them."""
    return _wanted(connection, ROLLING_WANTS, {"cluster": cluster, "limit": limit, "a_minute": a_minute})


def note_unanswered(connection: Connection, cluster: str, vmid: int, at: datetime) -> None:
    """A guest was asked about and nothing could be kept: others come first next time."""
    connection.execute(text(NOTE_UNANSWERED), {"cluster": cluster, "vmid": vmid, "at": at})


def longest_waiting(
    connection: Connection, clusters: Collection[str], away: Collection[tuple[str, str]], grace: timedelta
) -> list[Waiting]:
    """Of each of these clusters whose guests of orders or records have waited for their turn beyond ``grace``: since
    when. ``away``: (cluster, node) whose guests nobody can be asked about."""
    values = {"clusters": sorted(clusters), "away": sorted("/".join(one) for one in away), "grace": grace}
    return [Waiting(row.cluster, row.since) for row in connection.execute(text(LONGEST_WAITING), values)]


def _wanted(connection: Connection, statement: str, values: dict[str, object]) -> list[WantedConfig]:
    rows = connection.execute(text(statement), values)
    return [WantedConfig(row.node, GuestType(row.guest_type), row.vmid, row.changed_at) for row in rows]


_ASKED = "greatest(g.fingerprint_read_at, g.fingerprint_tried_at)"
_RECORDS = (
    "LEFT JOIN vps r ON r.cluster = g.cluster AND r.vmid = g.vmid AND r.deleted_at IS NULL"
    # of another size than was sold
    " LEFT JOIN guest_configs c ON c.cluster = g.cluster AND c.vmid = g.vmid AND c.fingerprint = r.fingerprint"
    " AND (c.cores <> r.cpu OR c.memory_mb <> r.ram_mb OR c.disk_gb <> r.disk_gb)"
)
_OLD = (
    "(g.fingerprint_state = 'read' AND (g.fingerprint_read_at < clock_timestamp() - interval '1 day'"
    " OR coalesce(c.read_at < clock_timestamp() - interval '1 hour', false)))"
)

# A template that nobody was sold is asked once who it is: a sold machine may have become one at another address.
_ASKABLE = "(NOT g.template OR r.id IS NOT NULL OR g.fingerprint_state IN ('unread', 'stale'))"

# Who was refused is asked again when the others were: else some dozens of them would keep everybody new waiting.
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

# Of one that was never read a doubt is nothing new.
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
