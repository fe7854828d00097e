"""Trusted lists of clusters, merged into what the panel remembers of guests.

The lists are staged, several clusters at a time. One join finds what they show that is new, and a second one which
known guests they lack. All that follows looks at these few rows only, so a quiet fleet costs two joins, no writes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from sqlalchemy import Connection, text

from domain.guests import GuestType, ListedGuest, PowerState
from panel.observations import identity_doubts
from panel.observations.copying import copied, copy_lines


@dataclass(frozen=True, slots=True)
class TrustedList:
    """A cluster's list that is staged. ``answered``: a time not earlier than the end of the answer. ``previous``: when
    the trusted read before it began. ``nodes``: those of which it is complete."""

    cluster: str
    answered: datetime
    previous: datetime | None
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Missing:
    """Of one cluster's complete nodes: the known guests that this read is the first to miss, and the known guests."""

    missing: int
    known: int


_ALIKE = (
    "cluster", "guest_type", "node", "status", "power", "lock", "template", "cores", "memory_mb", "disk_gb", "tags",
)  # fmt: skip
GUEST_COLUMNS = ("vmid", "name", "uptime_s", *_ALIKE)


def stage_guests(connection: Connection, guests: Iterable[ListedGuest]) -> None:
    """Copy the guests of a list into the run's temporary table."""
    copy_lines(connection, "stage_guests", GUEST_COLUMNS, map(_line, guests))


def _line(g: ListedGuest) -> str:
    alike = _alike(
        g.cluster, g.guest_type, g.node, g.status, g.power, g.lock, g.template, g.cores, g.memory_mb, g.disk_gb, g.tags
    )
    return f"{g.vmid}\t{copied(g.name)}\t{copied(g.uptime_s)}\t{alike}\n"


@lru_cache(maxsize=4_096)  # most guests of a cluster have all this in common with others
def _alike(
    cluster: str, guest_type: GuestType, node: str, status: str, power: PowerState, lock: str | None, template: bool,
    cores: float | None, memory_mb: int | None, disk_gb: int | None, tags: tuple[str, ...],
) -> str:  # fmt: skip
    values = cluster, guest_type, node, status, power, lock, template, cores, memory_mb, disk_gb, _array(tags)
    return "\t".join(map(copied, values))


def _array(tags: Iterable[str]) -> str:
    """The tags as PostgreSQL writes an array."""
    return "{" + ",".join('"' + re.sub(r'(["\\\\])', r"\\\1", tag) + '"' for tag in tags) + "}"


def previous_reads(connection: Connection, clusters: Collection[str]) -> dict[str, datetime]:
    """When the last trusted read of each of these clusters began, if there was one."""
    rows = connection.execute(text(PREVIOUS), {"sources": [f"proxmox:{cluster}" for cluster in clusters]})
    return {row.source.removeprefix("proxmox:"): row.began_at for row in rows}


def compare_lists(connection: Connection, lists: Sequence[TrustedList], began: datetime, gap: timedelta) -> None:
    """Find what these staged lists show that is new, and what they lack, for the functions below. ``gap``: the longest
    time between two reads after which a guest whose list proves nothing still counts as the same."""
    connection.execute(text("TRUNCATE listed_news, listed_lacking"))
    connection.execute(text("ANALYZE stage_guests (cluster, vmid)"))
    long_ago = [a.previous is None or began - a.previous > gap for a in lists]
    values = {"answered": [a.answered for a in lists], "gaps": long_ago}
    connection.execute(text(NEWS), values | _clusters(lists))
    connection.execute(text(LACKING), _clusters(lists))


def missing_guests(connection: Connection, lists: Sequence[TrustedList]) -> dict[str, Missing]:
    """What each cluster misses for the first time; no entry for those that miss nothing. After ``compare_lists``."""
    rows = connection.execute(text(MISSING), _nodes((a.cluster, node) for a in lists for node in a.nodes))
    return {row.cluster: Missing(row.missing, row.known) for row in rows}


def vanished_guests(
    connection: Connection, cluster: str, nodes: Sequence[str], limit: int
) -> list[tuple[str, GuestType, int]]:
    """(node, type, vmid) of the guests that ``missing_guests`` counts, at most ``limit``."""
    values = {"cluster": cluster, "nodes": list(nodes), "limit": limit}
    return [(r.node, GuestType(r.guest_type), r.vmid) for r in connection.execute(text(VANISHED), values)]


def merge_guests(connection: Connection, began: datetime) -> None:
    """Merge the compared lists into ``guests``, and put those in doubt whose identity they do not prove."""
    identity_doubts.doubt_listed(connection)
    for statement in (MERGE, LISTED_AGAIN, BACK, UNLISTED):
        connection.execute(text(statement), {"began": began})


def _clusters(lists: Sequence[TrustedList]) -> dict[str, list[str]]:
    return {"clusters": [a.cluster for a in lists]}


def _nodes(nodes: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    pairs = list(nodes)
    return {"clusters": [cluster for cluster, _ in pairs], "nodes": [node for _, node in pairs]}


PREVIOUS = "SELECT source, began_at FROM scopes WHERE scope = 'all' AND source = ANY(CAST(:sources AS text[]))"

LISTED_STAGES = (
    # What a list shows that is new. "why": what puts the guest in doubt. "differs": its row is written.
    "CREATE TEMP TABLE listed_news (cluster text, vmid int, why text, differs boolean, answered timestamptz,"
    " PRIMARY KEY (cluster, vmid))",
    # The known guests that a list lacks. "first": no earlier complete read missed it.
    "CREATE TEMP TABLE listed_lacking (cluster text, vmid int, node text, guest_type text, first boolean,"
    " PRIMARY KEY (cluster, vmid))",
)

# A guest of which all this is as it was has its signature, too.
_LISTED = (
    "guest_type", "node", "status", "power", "name", "lock", "template", "disk_gb", "tags", "cores", "memory_mb",
)  # fmt: skip
_DIFFERS = f"({', '.join(f'g.{c}' for c in _LISTED)}) IS DISTINCT FROM ({', '.join(f's.{c}' for c in _LISTED)})"
_ABSENCE = "LEFT JOIN absences a ON a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid"

NEWS = f"""
INSERT INTO listed_news
SELECT s.cluster, s.vmid, {identity_doubts.LISTED}, g.vmid IS NULL OR {_DIFFERS}, c.answered
FROM stage_guests s
JOIN unnest(CAST(:clusters AS text[]), CAST(:answered AS timestamptz[]), CAST(:gaps AS boolean[]))
  AS c(cluster, answered, gap) ON c.cluster = s.cluster
LEFT JOIN (SELECT * FROM guests WHERE cluster = ANY(CAST(:clusters AS text[]))) g
  ON g.cluster = s.cluster AND g.vmid = s.vmid
{_ABSENCE}
WHERE s.cluster = ANY(CAST(:clusters AS text[]))  -- not the lists of earlier merges
  AND (g.vmid IS NULL OR {_DIFFERS} OR g.unlisted_since IS NOT NULL OR a.subject IS NOT NULL
    OR {identity_doubts.LISTED} IS NOT NULL)
"""  # noqa: S608 - own text

LACKING = f"""
INSERT INTO listed_lacking
SELECT g.cluster, g.vmid, g.node, g.guest_type, a.subject IS NULL AND NOT g.template
FROM guests g {_ABSENCE}
WHERE g.cluster = ANY(CAST(:clusters AS text[]))
  AND NOT EXISTS (SELECT 1 FROM stage_guests s WHERE s.cluster = ANY(CAST(:clusters AS text[]))
                  AND s.cluster = g.cluster AND s.vmid = g.vmid)
"""  # noqa: S608 - own text

_NODES = "unnest(CAST(:clusters AS text[]), CAST(:nodes AS text[])) AS n(cluster, node)"
MISSING = f"""
SELECT m.cluster, m.missing, (
  SELECT count(*) FROM guests g {_ABSENCE}
  WHERE g.cluster = m.cluster AND NOT g.template AND a.subject IS NULL
    AND EXISTS (SELECT 1 FROM {_NODES} WHERE n.cluster = g.cluster AND n.node = g.node)) AS known
FROM (SELECT l.cluster, count(*) AS missing FROM listed_lacking l JOIN {_NODES} USING (cluster, node)
      WHERE l.first GROUP BY l.cluster) m
"""  # noqa: S608 - own text
VANISHED = """
SELECT node, guest_type, vmid FROM listed_lacking
WHERE cluster = :cluster AND node = ANY(:nodes) AND first LIMIT :limit
"""

MERGE = f"""
INSERT INTO guests AS g (cluster, vmid, guest_type, node, status, power, power_since, name, lock, lock_since,
  template, cores, memory_mb, disk_gb, tags, signature, fingerprint_state, first_seen_at, changed_at, read_at)
SELECT s.cluster, s.vmid, s.guest_type, s.node, s.status, s.power, :began, s.name, s.lock,
  CASE WHEN s.lock IS NOT NULL THEN CAST(:began AS timestamptz) END,
  s.template, s.cores, s.memory_mb, s.disk_gb, s.tags, {identity_doubts.SIGNATURE}, 'unread', :began, :began, :began
FROM listed_news n JOIN stage_guests s ON s.cluster = n.cluster AND s.vmid = n.vmid
WHERE n.differs
ON CONFLICT (cluster, vmid) DO UPDATE SET
  guest_type = excluded.guest_type, node = excluded.node, status = excluded.status,
  power = excluded.power,
  power_since = CASE WHEN g.power = excluded.power THEN g.power_since ELSE excluded.read_at END,
  name = excluded.name, lock = excluded.lock,
  lock_since = CASE WHEN excluded.lock IS NULL THEN NULL
                    WHEN g.lock IS NOT DISTINCT FROM excluded.lock THEN g.lock_since ELSE excluded.read_at END,
  template = excluded.template, cores = excluded.cores, memory_mb = excluded.memory_mb,
  disk_gb = excluded.disk_gb, tags = excluded.tags, signature = excluded.signature,
  first_seen_at = CASE WHEN g.fingerprint IS NULL AND (g.guest_type, g.name) IS DISTINCT FROM
    (excluded.guest_type, excluded.name) THEN excluded.read_at ELSE g.first_seen_at END,
  changed_at = excluded.read_at, read_at = excluded.read_at
"""  # noqa: S608 - own text

# Who comes back and was never identified may be another machine, like one that has another name (above).
LISTED_AGAIN = """
UPDATE guests g SET unlisted_since = NULL, changed_at = :began,
  first_seen_at = CASE WHEN g.fingerprint IS NULL THEN :began ELSE g.first_seen_at END
FROM listed_news n WHERE n.cluster = g.cluster AND n.vmid = g.vmid AND g.unlisted_since IS NOT NULL
"""

BACK = """
WITH back AS (
  DELETE FROM absences a USING listed_news n WHERE a.kind = 'guest' AND a.subject = n.cluster || '/' || n.vmid
  RETURNING n.cluster, n.vmid)
UPDATE guests g SET changed_at = :began
FROM back b WHERE g.cluster = b.cluster AND g.vmid = b.vmid
"""

# A read that does not list a guest shows nothing of its power, so "seen twice" starts again.
UNLISTED = """
UPDATE guests g SET power = 'unknown', power_since = :began, changed_at = :began, unlisted_since = :began
FROM listed_lacking l WHERE l.cluster = g.cluster AND l.vmid = g.vmid AND g.unlisted_since IS NULL
"""
