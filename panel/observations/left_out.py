"""Looks up what a cut run did not load but its decisions need."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, text

from domain.failures import Broken
from domain.guests import GuestType
from domain.left_out import LeftOut
from panel.observations.components import quarter_of_budget
from panel.observations.loaded_candidates import parsed_guests


def load_left_out(connection: Connection, within: timedelta | None, broken: dict[str, Broken] | None = None) -> LeftOut:
    """Look it up while the temporary tables of a cut selection exist. ``within``: how far apart an order and an
    unlinked record of its plan may have been made; None: any time."""
    for statement in LOOSE_LEFT:
        connection.execute(text(statement))
    partners = {row.order_id: row.id for row in connection.execute(text(PARTNERS), {"within": within})}
    guestless_orders = {
        None if row.guest_type is None else GuestType(row.guest_type): row.made_at
        for row in connection.execute(text(GUESTLESS_ORDERS))
    }
    most = quarter_of_budget()
    rows = connection.execute(text(UNNAMED), {"limit": most + 1}).all()
    guests = parsed_guests(rows, {}, {}, broken)
    return LeftOut(
        partners,
        guestless_orders,
        guests if len(guests) == len(rows) <= most else None,
        disputed=bool(connection.scalar(text(DISPUTED))),
    )


_LISTED = "NOT EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'order' AND a.subject = {o}.order_id)"
_NOT_GONE = "NOT EXISTS (SELECT 1 FROM gone_orders n WHERE n.order_id = {o}.order_id)"

# A record that an order names belongs to that order.
LOOSE_LEFT = (
    f"""
    CREATE TEMP TABLE loose_left ON COMMIT DROP AS
    SELECT l.* FROM loose l WHERE NOT EXISTS (SELECT 1 FROM pick_records p WHERE p.id = l.id)
      AND NOT EXISTS (SELECT 1 FROM orders_seen x WHERE x.panel_vps_id = l.id AND {_NOT_GONE.format(o="x")})
    """,
    "CREATE INDEX ON loose_left (user_id, cpu, ram_mb, disk_gb, os, created_at)",
    "ANALYZE loose_left",
)

# The same rule as reconcile.decision.matching.match.Partners. Plans come first: a customer has few plans but many
# machines.
PARTNERS = """
SELECT o.order_id, min(r.id) AS id
FROM pick_orders p JOIN orders_seen o ON o.order_id = p.order_id JOIN user_map m ON m.owner = o.owner
JOIN (SELECT DISTINCT user_id, cpu, ram_mb, disk_gb, os FROM loose_left) k ON k.user_id = m.user_id
  AND coalesce(o.cpu = k.cpu, true) AND coalesce(o.ram_mb = k.ram_mb, true)
  AND coalesce(o.disk_gb = k.disk_gb, true) AND coalesce(o.os = k.os, true)
CROSS JOIN LATERAL (
  SELECT l.id FROM loose_left l
  WHERE l.user_id = k.user_id AND l.cpu = k.cpu AND l.ram_mb = k.ram_mb AND l.disk_gb = k.disk_gb AND l.os = k.os
    AND (CAST(:within AS interval) IS NULL
         OR l.created_at BETWEEN o.created_at - CAST(:within AS interval) AND o.created_at + CAST(:within AS interval))
    AND (o.state <> 'ended' OR l.created_at <= o.state_since)
  LIMIT 1) r
WHERE o.name IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.order_id = o.order_id AND r.deleted_at IS NULL AND o.state <> 'ended')
GROUP BY o.order_id
"""

# By guest type: the time of creation of the newest order that has not ended, may be on Proxmox, names no guest, and
# whose record has no identified one. No time, if nobody knows when one of them was made. The same rule as
# domain.orders.may_be_on_proxmox.
GUESTLESS_ORDERS = f"""
SELECT o.guest_type, CASE WHEN bool_and(o.created_at IS NOT NULL) THEN max(o.created_at) END AS made_at
FROM orders_seen o
WHERE o.state <> 'ended' AND (o.cluster IS NULL OR o.vmid IS NULL)
  AND coalesce(o.hypervisor NOT IN ('vmware', 'hyperv', 'xen'), true)
  AND {_NOT_GONE.format(o="o")}
  AND NOT EXISTS (SELECT 1 FROM pick_orders p WHERE p.order_id = o.order_id)
  AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.order_id = o.order_id AND r.deleted_at IS NULL
                  AND r.fingerprint IS NOT NULL)
  AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.id = o.panel_vps_id AND r.deleted_at IS NULL
                  AND r.fingerprint IS NOT NULL)
GROUP BY o.guest_type
"""

UNNAMED = f"""
SELECT g.* FROM stage_guests s JOIN guests g ON g.cluster = s.cluster AND g.vmid = s.vmid
WHERE NOT s.template
  AND NOT EXISTS (SELECT 1 FROM pick_guests p WHERE p.cluster = s.cluster AND p.vmid = s.vmid)
  AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.cluster = s.cluster AND r.vmid = s.vmid AND r.deleted_at IS NULL
                  AND r.link_state = 'verified')
  AND NOT EXISTS (SELECT 1 FROM orders_seen o WHERE o.cluster = s.cluster AND o.vmid = s.vmid
                  AND {_LISTED.format(o="o")})
LIMIT :limit
"""

DISPUTED = "SELECT EXISTS (SELECT 1 FROM vps WHERE deleted_at IS NULL AND link_state = 'conflict')"
