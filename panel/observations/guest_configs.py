"""Guests' own configurations: which to read next, what they say of sizes, and where that differs from what was sold.

Nodes take turns. On each node the guest that was asked about longest ago comes first, answered or not. So guests of a
node that does not answer do not block the others. Configurations say more of sizes than lists do: in a list a
container's cores may be a share, and a VM's disk is only its boot disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from domain.config_read_delays import Waiting
from domain.guests import FingerprintState, GuestKey, GuestType
from domain.size_drift import Drift, Size
from domain.source_protocols import GuestConfig

DRIFTS_LIMIT = 1_000
"""How many differences a run reports, the oldest records first: the same ones each run, so that none comes and goes."""


@dataclass(frozen=True, slots=True)
class WantedConfig:
    """A guest whose configuration should be read. ``changed_at``: when a list last showed something new of it."""

    node: str
    guest_type: GuestType
    vmid: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Drifts:
    """The differences found. ``more``: there are more than ``DRIFTS_LIMIT``."""

    found: tuple[Drift, ...]
    more: bool


def fingerprint_wants(
    connection: Connection, cluster: str, limit: int, away: Collection[str], not_since: datetime
) -> list[WantedConfig]:
    """Guests of the staged list to ask about now, those that matter to records first.

    ``away``: nodes whose guests cannot be asked about. ``not_since``: when this run began to read ahead. Guests that
    were asked about after that wait, because a second read counts only if another run makes it.
    """
    values = {"cluster": cluster, "limit": limit, "away": sorted(away), "not_since": not_since}
    return _wanted(connection, FINGERPRINT_WANTS, values)


def doubted_wants(connection: Connection, cluster: str, limit: int, away: Collection[str]) -> list[WantedConfig]:
    """Guests in doubt of the staged list that belong to records. First come those that would change a record now."""
    return _wanted(connection, DOUBTED_WANTS, {"cluster": cluster, "limit": limit, "away": sorted(away)})


def clusters_with(connection: Connection, *states: FingerprintState) -> frozenset[str]:
    """The clusters that have guests of which the panel knows the identity so far, and no further: one look at all of
    them takes less time than one at each cluster, and most have none."""
    values = {"states": [state.value for state in states]}
    return frozenset(row.cluster for row in connection.execute(text(CLUSTERS_WITH), values))


def wants_ahead(connection: Connection, cluster: str, limit: int) -> list[WantedConfig]:
    """New or changed guests to read before this run's own lists, those that matter to records first.

    A guest without a known power state is left to the run itself: its node may be away, as the run's lists will show.
    """
    return _wanted(connection, WANTS_AHEAD, {"cluster": cluster, "limit": limit})


def rolling_wants(connection: Connection, cluster: str, limit: int, a_minute: int) -> list[WantedConfig]:
    """Guests to ask about between runs.

    First come unread guests and guests in doubt, those of records before the others, unless they were asked about in
    the last 10 seconds. Then come guests that were last asked about more than 5 minutes ago, the longest ago first. It
    returns so few that all reads of the cluster together stay within ``a_minute`` per minute.
    """
    return _wanted(connection, ROLLING_WANTS, {"cluster": cluster, "limit": limit, "a_minute": a_minute})


def note_unanswered(connection: Connection, cluster: str, vmid: int, at: datetime) -> None:
    """Note that a guest was asked about and nothing could be kept, so that other guests come first next time."""
    connection.execute(text(NOTE_UNANSWERED), {"cluster": cluster, "vmid": vmid, "at": at})


def longest_waiting(
    connection: Connection, clusters: Collection[str], away: Collection[tuple[str, str]], grace: timedelta
) -> list[Waiting]:
    """The clusters, among these, where guests of orders or records have waited longer than ``grace``, and since when.
    ``away``: (cluster, node) pairs whose guests cannot be asked about."""
    values = {"clusters": sorted(clusters), "away": sorted("/".join(node) for node in away), "grace": grace}
    return [Waiting(row.cluster, row.since) for row in connection.execute(text(LONGEST_WAITING), values)]


def _wanted(connection: Connection, statement: str, values: dict[str, object]) -> list[WantedConfig]:
    rows = connection.execute(text(statement), values)
    return [WantedConfig(row.node, GuestType(row.guest_type), row.vmid, row.changed_at) for row in rows]


def keep_config(connection: Connection, cluster: str, vmid: int, config: GuestConfig, read_at: datetime) -> None:
    """Keep the sizes of a configuration. A configuration that is forbidden or has no fingerprint is not kept."""
    if config.fingerprint is None or config.forbidden:
        return
    values = {
        "cluster": cluster,
        "vmid": vmid,
        "fingerprint": config.fingerprint,
        "cores": config.cores,
        "memory": config.memory_mb,
        "disk": config.disk_gb,
        "at": read_at,
    }
    connection.execute(text(KEEP), values)


def size_drifts(connection: Connection, clusters: Iterable[str], limit: int = DRIFTS_LIMIT) -> Drifts:
    """Records of active and suspended orders whose identified guest has another size than record and order."""
    rows = connection.execute(text(DRIFTS), {"clusters": sorted(clusters), "limit": limit + 1}).all()
    drifts = tuple(
        Drift(
            row.id,
            row.order_id,
            GuestKey(row.cluster, row.vmid),
            Size(row.cpu, row.ram_mb, row.disk_gb),
            Size(row.cores, row.memory_mb, row.config_disk_gb),
            row.since,
        )
        for row in rows[:limit]
    )
    return Drifts(drifts, len(rows) > limit)


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

CLUSTERS_WITH = "SELECT DISTINCT cluster FROM guests WHERE fingerprint_state = ANY(CAST(:states AS text[]))"

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
  SELECT count(*) FROM guests g WHERE g.cluster = :cluster
    AND {_ASKED} BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp())))
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

# An unchanged one is left out before the INSERT, which would lock its row: a lock is a write.
KEEP = """
INSERT INTO guest_configs AS c (cluster, vmid, fingerprint, cores, memory_mb, disk_gb, since, read_at)
SELECT :cluster, :vmid, CAST(:fingerprint AS text), CAST(:cores AS float8), CAST(:memory AS int),
  CAST(:disk AS int), CAST(:at AS timestamptz), CAST(:at AS timestamptz)
WHERE NOT EXISTS (SELECT 1 FROM guest_configs k WHERE k.cluster = :cluster AND k.vmid = :vmid
  AND (k.fingerprint, k.cores, k.memory_mb, k.disk_gb) IS NOT DISTINCT FROM
      (CAST(:fingerprint AS text), CAST(:cores AS float8), CAST(:memory AS int), CAST(:disk AS int))
  AND k.read_at >= CAST(:at AS timestamptz) - interval '50 minutes')
ON CONFLICT (cluster, vmid) DO UPDATE SET
  fingerprint = excluded.fingerprint, cores = excluded.cores, memory_mb = excluded.memory_mb,
  disk_gb = excluded.disk_gb, read_at = excluded.read_at,
  since = CASE WHEN (c.fingerprint, c.cores, c.memory_mb, c.disk_gb)
                    IS DISTINCT FROM (excluded.fingerprint, excluded.cores, excluded.memory_mb, excluded.disk_gb)
               THEN excluded.since ELSE c.since END
"""

# A record that differs from its order is not listed here: that is a plan change, which is on its way or held.
DRIFTS = """
SELECT r.id, r.order_id, r.cluster, r.vmid, r.cpu, r.ram_mb, r.disk_gb,
  c.cores, c.memory_mb, c.disk_gb AS config_disk_gb, greatest(r.plan_changed_at, r.link_changed_at, c.since) AS since
FROM vps r
JOIN guest_configs c ON c.cluster = r.cluster AND c.vmid = r.vmid AND c.fingerprint = r.fingerprint
JOIN guests g ON g.cluster = r.cluster AND g.vmid = r.vmid AND g.fingerprint = r.fingerprint
  AND g.fingerprint_state = 'read'
LEFT JOIN orders_seen o ON o.order_id = r.order_id
WHERE r.deleted_at IS NULL AND r.link_state = 'verified' AND r.missing_since IS NULL
  AND r.order_state IN ('active', 'suspended') AND r.cluster = ANY(:clusters)
  AND (c.cores <> r.cpu OR c.memory_mb <> r.ram_mb OR c.disk_gb <> r.disk_gb)
  AND coalesce(o.cpu = r.cpu, true) AND coalesce(o.ram_mb = r.ram_mb, true)
  AND coalesce(o.disk_gb = r.disk_gb, true)
  AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'guest' AND a.subject = r.cluster || '/' || r.vmid)
ORDER BY r.id LIMIT :limit
"""
