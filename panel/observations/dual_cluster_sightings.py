"""Machines that two clusters list at once, and since when. For a while that may be a migration."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, text


def note_moves(connection: Connection, clusters: Iterable[str], absent_times: int) -> None:
    """Store since when more than one configured cluster lists a fingerprint, and clear it afterwards.

    A list may leave a guest out by accident. So the time is cleared only after ``absent_times`` complete reads without
    the guest, and one such list does not start the time again.
    """
    values = {"clusters": sorted(clusters), "times": absent_times}
    connection.execute(text(BEGUN), values)
    connection.execute(text(ENDED), values)


_TWICE = """
WITH listed AS MATERIALIZED (
  SELECT g.cluster, g.vmid, g.fingerprint FROM guests g
  WHERE g.fingerprint IS NOT NULL AND NOT g.template AND g.cluster = ANY(:clusters)
    AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid
                    AND a.consecutive >= :times)),
twice AS (
  SELECT cluster, vmid FROM listed
  WHERE fingerprint IN (SELECT fingerprint FROM listed GROUP BY fingerprint HAVING min(cluster) <> max(cluster)))
"""
BEGUN = f"""
{_TWICE} UPDATE guests g SET moving_since = clock_timestamp() FROM twice t
WHERE g.cluster = t.cluster AND g.vmid = t.vmid AND g.moving_since IS NULL
"""  # noqa: S608 - own text
ENDED = f"""
{_TWICE} UPDATE guests g SET moving_since = NULL
WHERE g.moving_since IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM twice t WHERE t.cluster = g.cluster AND t.vmid = g.vmid)
"""  # noqa: S608 - own text
