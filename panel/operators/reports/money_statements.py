"""The statements of :mod:`panel.operators.reports.money`."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import text

from panel.observations.owners import IS_OWNER
from panel.observations.proof import PROVEN
from panel.operators.reports.on_proxmox import ON_PROXMOX


class Subject(StrEnum):
    """What a report is about."""

    UNPAID = "running-unpaid"
    MISSING = "paid-missing"


AGES = ("0-1", "1-7", "7-30", "30-", "unknown")
"""Ages in days."""

# The guests that run and for which no order pays now, each with the order it had. Nobody knows whether the guest of
# a record without a known order is paid for, nor what a cluster runs that was not read: both are in no list. An order
# of another machine at this address, as its record's fingerprint shows, is not the guest's. Machines are switched off
# by this list. So a guest is not in it where the record at its address is of another machine, or where its machine is
# another record's, by its fingerprint or because a call named it: the order of that record may pay for it. Nor is it
# where an order that goes on names the record by its id, or an operator gave the guest to an order.
# Of feed and call the later word counts, as for a run (reconcile.decision.fact_updates), and an absence from before the
# record's last change proves nothing against it (panel.observations.absences).
# LIMIT: so PostgreSQL looks one order up by its key, and does not read all absences first.
_GOES_ON = (
    "p.state IN ('active', 'pending', 'unknown') AND (SELECT true FROM absences a"  # noqa: S608 - own text
    f" WHERE a.kind = 'order' AND a.subject = p.order_id AND {PROVEN} LIMIT 1) IS NOT TRUE"
)
_UNPAID = f"""
SELECT CASE WHEN r.id IS NULL AND o.order_id IS NULL THEN 'no-order'
    WHEN said.state = 'suspended' THEN 'order-suspended' WHEN said.state = 'ended' THEN 'order-ended'
    WHEN gone.subject IS NOT NULL THEN 'order-gone' END AS reason,
  CASE WHEN r.id IS NULL AND o.order_id IS NULL THEN g.first_seen_at
    WHEN said.state NOT IN ('suspended', 'ended') THEN gone.absent_since
    WHEN said.state = o.state THEN o.state_since ELSE r.order_changed_at END AS since,
  r.id AS vps_id, coalesce(o.order_id, r.order_id) AS order_id, coalesce(r.user_id, owner.id) AS user_id,
  g.cluster, g.node, g.vmid, g.guest_type, coalesce(g.name, r.name, o.name) AS name, g.power,
  coalesce(c.cores, g.cores, r.cpu) AS cores, coalesce(c.memory_mb, g.memory_mb, r.ram_mb) AS ram_mb,
  coalesce(c.disk_gb, g.disk_gb, r.disk_gb) AS disk_gb
FROM guests g
LEFT JOIN vps r ON r.cluster = g.cluster AND r.vmid = g.vmid AND r.deleted_at IS NULL
LEFT JOIN guest_configs c ON c.cluster = g.cluster AND c.vmid = g.vmid AND c.fingerprint = g.fingerprint
LEFT JOIN LATERAL (
  SELECT x.* FROM orders_seen x WHERE r.id IS NOT NULL AND x.order_id = r.order_id
  UNION ALL
  SELECT y.* FROM (SELECT x.* FROM orders_seen x WHERE r.id IS NULL AND x.cluster = g.cluster AND x.vmid = g.vmid
      AND NOT EXISTS (SELECT 1 FROM vps t WHERE t.order_id = x.order_id AND t.fingerprint <> g.fingerprint)
    ORDER BY x.state = 'ended', x.state_since DESC, x.order_id LIMIT 1) y) o ON true
LEFT JOIN LATERAL (SELECT a.subject, a.absent_since FROM absences a
  WHERE a.kind = 'order' AND a.subject = o.order_id AND {PROVEN}
    AND (a.absent_since <= greatest(r.order_changed_at, r.link_changed_at)) IS NOT TRUE) gone ON true
LEFT JOIN LATERAL (SELECT u.id FROM users u WHERE {{is_owner}} LIMIT 1) owner ON true
CROSS JOIN LATERAL (SELECT CASE WHEN r.order_changed_at > coalesce(o.effective_at, '-infinity') THEN r.order_state
  ELSE coalesce(o.state, r.order_state) END AS state) said
WHERE g.unlisted_since IS NULL AND g.power = 'running' AND NOT g.template
  AND g.cluster = ANY(CAST(:clusters AS text[])) AND NOT g.cluster = ANY(CAST(:unread AS text[]))
  AND (coalesce(said.state, 'none') NOT IN ('active', 'pending', 'unknown') OR gone.subject IS NOT NULL)
  AND NOT EXISTS (SELECT 1 FROM orders_seen p WHERE p.cluster = g.cluster AND p.vmid = g.vmid
    AND p.order_id IS DISTINCT FROM o.order_id AND {_GOES_ON})
  AND NOT EXISTS (SELECT 1 FROM orders_seen p
    WHERE p.panel_vps_id = ANY(ARRAY(SELECT r.id UNION ALL SELECT m.id FROM vps m WHERE m.merged_into = r.id))
      AND p.order_id IS DISTINCT FROM o.order_id AND {_GOES_ON})
  AND NOT EXISTS (SELECT 1 FROM orders_seen p JOIN vps t ON t.order_id = p.order_id AND t.deleted_at IS NULL
    WHERE p.cluster = g.cluster AND p.vmid = g.vmid AND t.id IS DISTINCT FROM r.id
      AND t.order_state IN ('active', 'pending', 'unknown')
      AND t.order_changed_at > coalesce(p.effective_at, '-infinity'))
  AND NOT EXISTS (SELECT 1 FROM adoptions a WHERE a.cluster = g.cluster AND a.vmid = g.vmid AND a.ended_at IS NULL)
  AND (r.fingerprint = g.fingerprint) IS NOT FALSE
  AND NOT EXISTS (SELECT 1 FROM vps t WHERE t.fingerprint = g.fingerprint AND t.deleted_at IS NULL
    AND t.id IS DISTINCT FROM r.id)
  AND NOT EXISTS (SELECT 1 FROM vps t WHERE t.claimed_cluster = g.cluster AND t.claimed_vmid = g.vmid
    AND t.deleted_at IS NULL AND t.id IS DISTINCT FROM r.id)
  AND NOT EXISTS (SELECT 1 FROM ignored_guests i WHERE i.cluster = g.cluster AND i.vmid = g.vmid
    AND i.fingerprint = g.fingerprint)
"""  # noqa: S608 - own text

# The active orders whose machine is not there or does not work. Where a cluster was not read, nobody knows, and the
# order is in no list. A machine that moved is there: its record has another address until a run links it again.
_MISSING = f"""
SELECT CASE WHEN k.vmid IS NULL THEN 'no-guest'
    WHEN NOT k.cluster = ANY(CAST(:clusters AS text[])) OR k.cluster = ANY(CAST(:unread AS text[])) THEN NULL
    WHEN g.vmid IS NULL AND k.cluster = ANY(CAST(:whole AS text[])) THEN 'guest-never-listed'
    WHEN g.unlisted_since IS NOT NULL AND lost.subject IS NOT NULL THEN 'guest-gone'
    WHEN g.unlisted_since IS NOT NULL AND k.cluster = ANY(CAST(:whole AS text[])) THEN 'guest-not-listed'
    WHEN g.unlisted_since IS NOT NULL THEN NULL
    WHEN g.template THEN 'guest-is-template'
    WHEN g.power = 'error' THEN 'guest-in-error'
    WHEN g.power = 'stopped' AND o.status IN ('running', 'error') AND NOT EXISTS (
      SELECT 1 FROM power_actions p WHERE p.vps_id = r.id AND p.action = 'stop' AND p.state = 'done'
        AND p.ended_at >= g.power_since - interval '10 minutes') THEN 'guest-stopped' END AS reason,
  CASE WHEN k.vmid IS NULL THEN o.state_since WHEN g.vmid IS NULL THEN greatest(o.state_since, o.guest_since)
    WHEN g.unlisted_since IS NOT NULL THEN greatest(o.state_since, g.unlisted_since)
    WHEN g.template THEN greatest(o.state_since, g.changed_at) ELSE greatest(o.state_since, g.power_since) END AS since,
  r.id AS vps_id, o.order_id, coalesce(r.user_id, owner.id) AS user_id,
  k.cluster, coalesce(g.node, r.node, o.node) AS node, k.vmid, coalesce(g.guest_type, r.guest_type, o.guest_type)
    AS guest_type, coalesce(o.name, r.name) AS name, g.power,
  CAST(coalesce(o.cpu, r.cpu) AS float8) AS cores, coalesce(o.ram_mb, r.ram_mb) AS ram_mb,
  coalesce(o.disk_gb, r.disk_gb) AS disk_gb
FROM orders_seen o
LEFT JOIN LATERAL (
  SELECT x.* FROM vps x WHERE x.order_id = o.order_id AND x.deleted_at IS NULL
  UNION ALL
  SELECT x.* FROM vps x WHERE x.id = o.panel_vps_id AND x.deleted_at IS NULL AND x.order_id IS NULL
  LIMIT 1) r ON true
CROSS JOIN LATERAL (SELECT CASE WHEN r.vmid IS NOT NULL THEN r.cluster ELSE o.cluster END AS cluster,
  coalesce(r.vmid, o.vmid) AS vmid) k
LEFT JOIN guests g ON g.cluster = k.cluster AND g.vmid = k.vmid
LEFT JOIN LATERAL (SELECT a.subject FROM absences a
  WHERE a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid AND {PROVEN}) lost ON true
LEFT JOIN LATERAL (SELECT u.id FROM users u WHERE {{is_owner}} LIMIT 1) owner ON true
WHERE o.state = 'active'
  AND CASE WHEN r.id IS NULL THEN coalesce(o.hypervisor, 'proxmox') = 'proxmox' ELSE {ON_PROXMOX} END
  AND ((g.fingerprint = r.fingerprint AND g.unlisted_since IS NULL) IS TRUE
    OR NOT EXISTS (SELECT 1 FROM guests m WHERE m.fingerprint = r.fingerprint AND m.unlisted_since IS NULL))
  AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'order' AND a.subject = o.order_id AND {PROVEN})
"""  # noqa: S608 - own text

_ROWS = """
WITH found AS (
  SELECT f.*, CAST(extract(epoch FROM statement_timestamp() - f.since) AS float8) AS age_s FROM ({source}) f
  WHERE f.reason IS NOT NULL AND (CAST(:reason AS text) IS NULL OR f.reason = :reason)
    AND (CAST(:cluster AS text) IS NULL OR f.cluster = :cluster)
    AND (CAST(:user AS bigint) IS NULL OR f.user_id = :user)
    AND (CAST(:older AS interval) <= interval '0' OR f.since <= statement_timestamp() - CAST(:older AS interval)))
"""
_LIST = """
SELECT f.*, coalesce(n.began_at, w.began_at) AS as_of FROM found f
LEFT JOIN scopes n ON n.source = 'proxmox:' || f.cluster AND n.scope = f.node
LEFT JOIN scopes w ON w.source = 'proxmox:' || f.cluster AND w.scope = 'all' AND n.source IS NULL
ORDER BY f.since NULLS FIRST, f.cluster, f.vmid, f.order_id LIMIT :limit OFFSET :offset
"""
_GROUPS = """
, aged AS (
  SELECT f.*, CASE WHEN age_s IS NULL THEN 'unknown' WHEN age_s < 86400 THEN '0-1' WHEN age_s < 7 * 86400 THEN '1-7'
      WHEN age_s < 30 * 86400 THEN '7-30' ELSE '30-' END AS age,
    concat_ws('/', coalesce(CAST(cores AS text), '?'), coalesce(CAST(ram_mb AS text), '?'),
      coalesce(CAST(disk_gb AS text), '?')) AS plan FROM found f)
SELECT CASE WHEN grouping(reason) = 0 THEN 'reason' WHEN grouping(age) = 0 THEN 'age' WHEN grouping(plan) = 0
    THEN 'plan' ELSE '' END AS by, coalesce(reason, age, plan, '') AS of,
  count(*) AS found, CAST(coalesce(sum(cores), 0) AS float8) AS cores,
  CAST(coalesce(sum(ram_mb), 0) AS float8) AS ram_mb, CAST(coalesce(sum(disk_gb), 0) AS bigint) AS disk_gb,
  count(*) FILTER (WHERE cores IS NULL OR ram_mb IS NULL OR disk_gb IS NULL) AS sizes_unknown
FROM aged GROUP BY GROUPING SETS ((), (reason), (age), (plan)) ORDER BY found DESC, of
"""
_SOURCES = {Subject.UNPAID: _UNPAID, Subject.MISSING: _MISSING}
_FOUND = {
    (subject, shared): _ROWS.format(source=source.format(is_owner=IS_OWNER[shared]))
    for subject, source in _SOURCES.items()
    for shared in (False, True)
}
LIST = {key: text(found + _LIST) for key, found in _FOUND.items()}
GROUPS = {key: text(found + _GROUPS) for key, found in _FOUND.items()}
"""By subject, and by whether the main site's user ids are also the panel's."""
