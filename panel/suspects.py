"""Pick out what a run must think about: one set-based join leaves the converged fleet in the database.

A record is *settled* when its order, its guest and every fact agree and nothing hangs over it. Everything else, and
whatever is connected to it, is loaded and decided in memory, so that memory follows the number of differences.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from reconcile.state import IDENTITY_TAG

LIMIT = 5_000
"""Suspects of one kind per run, drawn anew by each: a flood costs time, not memory, and what stays a suspect for good
(thousands of guests that nobody sold, say) keeps nobody else from being looked at."""


def prepare(
    connection: Connection, *, shared_ids: bool, names: bool, everything: bool = False, limit: int | None = None
) -> dict[str, int]:
    """Fill the temporary tables of suspects; their counts, and as ``cut`` how many kinds had more than ``limit``.

    ``shared_ids``: the main site's user ids are the panel's. ``names``: the feed's names are authoritative.
    ``everything`` skips the filter (for comparison).
    """
    most = LIMIT if limit is None else limit
    connection.execute(text(USER_MAP.format(key="id::text" if shared_ids else "main_site_user_id")))
    connection.execute(text("CREATE UNIQUE INDEX ON user_map (owner)"))
    connection.execute(text(TAG_TWINS))
    connection.execute(text(RECORD_TWINS))
    connection.execute(text("ANALYZE user_map, tag_twins, record_twins"))
    if everything:
        connection.execute(text(SETTLED_NOTHING))
    else:
        connection.execute(text(SETTLED), {"names": names})
    cut = 0
    for statement in (SUSPECT_RECORDS, SUSPECT_ORDERS, SUSPECT_GUESTS):
        picked = connection.execute(text(statement), {"limit": most + 1}).rowcount
        cut += picked > most
    connection.execute(text("ANALYZE settled, user_map, pick_records, pick_orders, pick_guests"))
    for statement in PICK_USERS:
        connection.execute(text(statement))
    while sum(connection.execute(text(step)).rowcount for step in CLOSURE):
        pass
    counts = connection.execute(text(COUNTS)).one()
    return dict(counts._mapping) | {"cut": cut}


USER_MAP = (
    "CREATE TEMP TABLE user_map ON COMMIT DROP AS "
    "SELECT {key} AS owner, id AS user_id, mapped_at FROM users WHERE {key} IS NOT NULL"
)

TAGGED_TWICE = f"""
SELECT cluster, vmid, tag FROM (
  SELECT s.cluster, s.vmid, t.tag, count(*) OVER (PARTITION BY s.cluster, t.tag) AS guests
  FROM stage_guests s CROSS JOIN LATERAL (SELECT DISTINCT unnest(s.tags) AS tag) t
  WHERE NOT s.template AND strpos(array_to_string(s.tags, ' '), 'pnl-') > 0 AND t.tag ~ '{IDENTITY_TAG}') tagged
WHERE guests > 1
"""
TAG_TWINS = f"CREATE TEMP TABLE tag_twins ON COMMIT DROP AS {TAGGED_TWICE}"

RECORD_TWINS = """
CREATE TEMP TABLE record_twins ON COMMIT DROP AS
SELECT fingerprint FROM vps WHERE deleted_at IS NULL AND fingerprint IS NOT NULL
GROUP BY fingerprint HAVING count(*) > 1
"""

# Each row is found by a key of its own, and by nothing that one customer has much of: who knows nothing of a table that
# was filled just now, or restored, takes the customer for as good a key.
SETTLED = """
CREATE TEMP TABLE settled ON COMMIT DROP AS
SELECT r.id, r.order_id, r.cluster, r.vmid
FROM vps r
JOIN orders_seen o ON o.order_id = r.order_id
JOIN guests g ON g.cluster = r.cluster AND g.vmid = r.vmid
JOIN stage_guests s ON s.cluster = g.cluster AND s.vmid = g.vmid
JOIN lanes l ON l.vps_id = r.id
WHERE r.deleted_at IS NULL AND r.link_state = 'verified' AND r.missing_since IS NULL AND r.hypervisor = 'proxmox'
  AND l.applied_seq = l.last_seq
  AND o.state = r.order_state
  AND (o.state = 'active' OR (o.state = 'suspended' AND g.power = 'stopped' AND r.power_state = 'stopped'))
  AND (o.panel_vps_id IS NULL OR o.panel_vps_id = r.id)
  AND r.user_id = (SELECT u.user_id FROM user_map u WHERE u.owner = o.owner)
  AND coalesce(o.cpu = r.cpu, true) AND coalesce(o.ram_mb = r.ram_mb, true)
  AND coalesce(o.disk_gb = r.disk_gb, true) AND coalesce(o.os = r.os, true)
  AND (NOT :names OR coalesce(o.name = r.name, true))
  AND (o.ip_address IS NULL OR o.ip_address IS NOT DISTINCT FROM r.ip_address)
  AND (o.cluster IS NULL OR o.vmid IS NULL OR (o.cluster = r.cluster AND o.vmid = r.vmid))
  AND g.fingerprint_state = 'read' AND g.fingerprint = r.fingerprint AND g.fingerprint IS NOT NULL
  AND g.node = r.node AND g.guest_type = r.guest_type AND g.lock IS NULL AND NOT g.template
  AND g.moving_since IS NULL
  AND NOT EXISTS (SELECT 1 FROM tag_twins t WHERE t.cluster = r.cluster AND t.vmid = r.vmid)
  AND (g.power = r.power_state OR g.power = 'unknown')
  AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'order' AND a.subject = o.order_id)
  AND NOT EXISTS (SELECT 1 FROM orders_seen x WHERE x.panel_vps_id = r.id AND x.order_id <> o.order_id)
  AND NOT EXISTS (SELECT 1 FROM orders_seen x WHERE x.cluster = r.cluster AND x.vmid = r.vmid
                  AND x.order_id <> o.order_id AND x.state <> 'ended')
  AND NOT EXISTS (SELECT 1 FROM guests x JOIN stage_guests y ON y.cluster = x.cluster AND y.vmid = x.vmid
                  WHERE x.fingerprint = g.fingerprint AND (x.cluster, x.vmid) <> (g.cluster, g.vmid))
  AND NOT EXISTS (SELECT 1 FROM record_twins t WHERE t.fingerprint = r.fingerprint)
"""

SETTLED_NOTHING = """
CREATE TEMP TABLE settled ON COMMIT DROP AS SELECT id, order_id, cluster, vmid FROM vps WHERE false
"""

SUSPECT_RECORDS = """
CREATE TEMP TABLE pick_records ON COMMIT DROP AS
SELECT r.id FROM vps r WHERE r.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM settled s WHERE s.id = r.id)
ORDER BY random() LIMIT :limit
"""

SUSPECT_ORDERS = """
CREATE TEMP TABLE pick_orders ON COMMIT DROP AS
SELECT o.order_id FROM (
  SELECT o.order_id FROM orders_seen o WHERE o.state <> 'ended'
  -- of those that ended, what still has a record or a guest: each by its index, since the others are years of them
  UNION SELECT o.order_id FROM vps r JOIN orders_seen o ON o.order_id = r.order_id WHERE r.deleted_at IS NULL
  UNION SELECT o.order_id FROM vps r JOIN orders_seen o ON o.panel_vps_id = r.id WHERE r.deleted_at IS NULL
  UNION SELECT o.order_id FROM stage_guests s JOIN orders_seen o ON o.cluster = s.cluster AND o.vmid = s.vmid) o
WHERE NOT EXISTS (SELECT 1 FROM settled s WHERE s.order_id = o.order_id)
  AND NOT EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'order' AND a.subject = o.order_id)
ORDER BY random() LIMIT :limit
"""

SUSPECT_GUESTS = """
CREATE TEMP TABLE pick_guests ON COMMIT DROP AS
SELECT s.cluster, s.vmid FROM stage_guests s
WHERE NOT s.template AND NOT EXISTS (SELECT 1 FROM settled t WHERE t.cluster = s.cluster AND t.vmid = s.vmid)
ORDER BY random() LIMIT :limit
"""

PICK_USERS = (
    # customers with something unlinked: all of theirs that is unlinked, since names and plans are compared
    """
    CREATE TEMP TABLE pick_users ON COMMIT DROP AS
    SELECT r.user_id FROM pick_records p JOIN vps r ON r.id = p.id WHERE r.order_id IS NULL
    UNION
    SELECT u.user_id FROM pick_orders p JOIN orders_seen o ON o.order_id = p.order_id
    JOIN user_map u ON u.owner = o.owner
    WHERE NOT EXISTS (SELECT 1 FROM vps r WHERE r.order_id = o.order_id AND r.deleted_at IS NULL)
    """,
    "ANALYZE pick_users",
    "CREATE UNIQUE INDEX ON pick_records (id)",
    "CREATE UNIQUE INDEX ON pick_orders (order_id)",
    "CREATE UNIQUE INDEX ON pick_guests (cluster, vmid)",
    "INSERT INTO pick_records SELECT r.id FROM vps r JOIN pick_users u ON u.user_id = r.user_id"
    " WHERE r.deleted_at IS NULL AND r.order_id IS NULL ON CONFLICT DO NOTHING",
    # Orders without a record may be those of unlinked records; and what doubles a linked record has its order's name.
    """
    INSERT INTO pick_orders
    SELECT o.order_id FROM pick_users u JOIN user_map m ON m.user_id = u.user_id JOIN orders_seen o ON o.owner = m.owner
    WHERE NOT EXISTS (SELECT 1 FROM vps r WHERE r.order_id = o.order_id AND r.deleted_at IS NULL)
    UNION
    SELECT o.order_id FROM pick_users u JOIN user_map m ON m.user_id = u.user_id
    JOIN vps r ON r.user_id = u.user_id AND r.order_id IS NULL AND r.deleted_at IS NULL
    JOIN orders_seen o ON o.owner = m.owner AND o.name = r.name
    ON CONFLICT DO NOTHING
    """,
    "ANALYZE pick_records, pick_orders",
)

CLOSURE = tuple(
    f"INSERT INTO {table} {select} ON CONFLICT DO NOTHING"
    for table, select in (
        # what names, or is named by, what was picked
        ("pick_records", "SELECT r.id FROM vps r JOIN pick_orders p ON p.order_id = r.order_id"),
        (
            "pick_records",
            "SELECT r.id FROM vps r JOIN orders_seen o ON o.panel_vps_id = r.id"
            " JOIN pick_orders p ON p.order_id = o.order_id",
        ),
        ("pick_records", "SELECT r.id FROM vps r JOIN pick_guests p ON p.cluster = r.cluster AND p.vmid = r.vmid"),
        (
            "pick_records",
            "SELECT r.id FROM vps r JOIN pick_guests p ON p.cluster = r.claimed_cluster AND p.vmid = r.claimed_vmid"
            " WHERE r.claimed_vmid IS NOT NULL AND r.deleted_at IS NULL",
        ),
        (
            "pick_records",
            "SELECT r.id FROM vps r JOIN orders_seen o ON o.cluster = r.cluster AND o.vmid = r.vmid"
            " JOIN pick_orders p ON p.order_id = o.order_id WHERE r.deleted_at IS NULL",
        ),
        ("pick_records", "SELECT r.merged_into FROM vps r JOIN pick_records p ON p.id = r.id WHERE r.merged_into > 0"),
        (
            "pick_orders",
            "SELECT r.order_id FROM vps r JOIN pick_records p ON p.id = r.id"
            " WHERE r.order_id IS NOT NULL AND r.deleted_at IS NULL",
        ),
        ("pick_orders", "SELECT o.order_id FROM orders_seen o JOIN pick_records p ON p.id = o.panel_vps_id"),
        (
            "pick_orders",
            "SELECT o.order_id FROM orders_seen o JOIN pick_guests p ON p.cluster = o.cluster AND p.vmid = o.vmid",
        ),
        (
            "pick_guests",
            "SELECT r.cluster, r.vmid FROM vps r JOIN pick_records p ON p.id = r.id WHERE r.vmid IS NOT NULL",
        ),
        (
            "pick_guests",
            "SELECT r.claimed_cluster, r.claimed_vmid FROM vps r JOIN pick_records p ON p.id = r.id"
            " WHERE r.claimed_vmid IS NOT NULL",
        ),
        (
            "pick_guests",
            "SELECT o.cluster, o.vmid FROM orders_seen o JOIN pick_orders p ON p.order_id = o.order_id"
            " WHERE o.cluster IS NOT NULL AND o.vmid IS NOT NULL",
        ),
        # the same machine at another address, and clones
        (
            "pick_guests",
            "SELECT g.cluster, g.vmid FROM guests g JOIN vps r ON r.fingerprint = g.fingerprint"
            " JOIN pick_records p ON p.id = r.id",
        ),
        (
            "pick_guests",
            "SELECT g.cluster, g.vmid FROM guests g JOIN guests h ON h.fingerprint = g.fingerprint"
            " JOIN pick_guests p ON p.cluster = h.cluster AND p.vmid = h.vmid",
        ),
        (
            "pick_guests",
            "SELECT t.cluster, t.vmid FROM tag_twins t JOIN tag_twins u ON u.cluster = t.cluster AND u.tag = t.tag"
            " JOIN pick_guests p ON p.cluster = u.cluster AND p.vmid = u.vmid",
        ),
    )
)
"""One step along every key; repeated until whole connected components are picked."""

COUNTS = """
SELECT (SELECT count(*) FROM settled) AS settled, (SELECT count(*) FROM pick_records) AS records,
  (SELECT count(*) FROM pick_orders) AS orders, (SELECT count(*) FROM pick_guests) AS guests
"""
