"""How fresh a record's power state is, as SQL over ``vps v``.

Every complete read of its node confirms a linked record, unless the guest showed something else. An unlinked record
shows what the main site said last. Nothing ever confirms that again, so it is never stale.
"""

from __future__ import annotations

from domain.records import STALE_AFTER

FRESHNESS = (
    "vps v LEFT JOIN scopes s ON s.source = 'proxmox:' || v.cluster AND s.scope = v.node"
    " CROSS JOIN LATERAL (SELECT v.link_state IN ('verified', 'unverified', 'pushed') AS linked) AS linked"
    " CROSS JOIN LATERAL (SELECT linked.linked AND v.power_unconfirmed_since IS NULL"
    " AND coalesce(s.began_at > v.power_as_of, false) AS seen) AS seen"
    " CROSS JOIN LATERAL (SELECT CASE WHEN seen.seen THEN s.began_at ELSE v.power_as_of END AS as_of) AS as_of"
)
"""To select from: ``v``; ``seen.seen``, whether Proxmox confirmed it last; and ``as_of.as_of``, when that was."""

STALE = (
    f"(linked.linked AND statement_timestamp() - as_of.as_of > make_interval(secs => {STALE_AFTER.total_seconds()}))"
)
"""Whether nothing confirmed it for too long."""
