"""Sizes of guests by their own configurations, and which of them differ from what was sold.

Lists say less: a container's cores may be a share there, and a VM's disk is only its boot disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from domain.guests import GuestKey
from domain.size_drift import Drift, Size
from domain.source_protocols import GuestConfig

LIMIT = 1_000
"""How many differences a run reports, the oldest records first: the same ones each run, so that none comes and goes."""


@dataclass(frozen=True, slots=True)
class Drifts:
    """The differences found. ``more``: there are more than ``LIMIT``."""

    found: tuple[Drift, ...]
    more: bool


def keep_config(connection: Connection, cluster: str, vmid: int, config: GuestConfig, read_at: datetime) -> None:
    """Keep the sizes of a configuration. One that is forbidden or has no fingerprint says nothing."""
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


def size_drifts(connection: Connection, clusters: Iterable[str], limit: int = LIMIT) -> Drifts:
    """Records of running orders whose identified guest differs in size from what record and order say."""
    rows = connection.execute(text(DRIFTS), {"clusters": sorted(clusters), "limit": limit + 1}).all()
    found = tuple(
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
    return Drifts(found, len(rows) > limit)


KEEP = """
INSERT INTO guest_configs AS c (cluster, vmid, fingerprint, cores, memory_mb, disk_gb, since, read_at)
VALUES (:cluster, :vmid, :fingerprint, :cores, :memory, :disk, :at, :at)
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
