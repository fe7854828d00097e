"""Select what a run must think about. One set-based join leaves the converged fleet in the database.

A record is *converged* when its order, its guest and all its facts agree and nothing is pending for it. All other
objects are candidates. If there are too many, a run draws some of them at random, so that a permanent candidate does
not block the others. Each is loaded with its component (``panel.observations.components``) and decided in memory, so
memory follows the number of differences.
"""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection, text

from domain.guests import IDENTITY_TAG
from domain.record_columns import DRIFTING, RecordColumn
from panel.observations import components
from panel.observations.proof import PROVEN, Proof


def select_candidates(
    connection: Connection,
    *,
    shared_ids: bool,
    names: bool,
    proof: Proof,
    everything: bool = False,
    budget: int | None = None,
) -> dict[str, int]:
    """Fill the temporary tables with the selection. Returns their counts, the number of ``entangled`` components, and
    as ``cut`` how many candidates are left to a later run.

    ``shared_ids``: the main site's user ids are also the panel's. ``names``: the feed's names are authoritative.
    ``proof``: an order that was missed, but not so often, still claims what it claimed, so it is a candidate.
    ``everything`` skips the filter (for comparison). ``budget``: instead of ``components.BUDGET``.
    """
    most = components.quarter_of_budget(budget)
    connection.execute(text(USER_MAP.format(key="id::text" if shared_ids else "main_site_user_id")))
    connection.execute(text("CREATE UNIQUE INDEX ON user_map (owner)"))
    connection.execute(text(TAG_TWINS))
    connection.execute(text("CREATE INDEX ON tag_twins (cluster, vmid)"))
    connection.execute(text("CREATE INDEX ON tag_twins (cluster, tag)"))
    connection.execute(text(MACHINE_TWINS))
    connection.execute(text(GONE_ORDERS), asdict(proof))
    connection.execute(text("CREATE UNIQUE INDEX ON gone_orders (order_id)"))
    connection.execute(text("ANALYZE user_map, tag_twins, machine_twins, gone_orders"))
    if everything:
        connection.execute(text(CONVERGED_NOTHING))
    else:
        connection.execute(text(CONVERGED), {"names": names})
    connection.execute(text("ANALYZE converged"))
    more = False
    for make, draw, index in SEEDS:
        connection.execute(text(make))
        more |= connection.execute(text(draw), {"most": most}).rowcount == most
        connection.execute(text(index))
    connection.execute(text("ANALYZE pick_records, pick_orders, pick_guests"))
    components.add_components(connection, most)
    counts = dict(connection.execute(text(COUNTS)).one()._mapping)
    more |= counts.pop("parts_left") > 0
    cut: int = connection.scalar(text(f"SELECT {LEFT}")) or 0 if more else 0
    return counts | {"cut": cut}


USER_MAP = (
    "CREATE TEMP TABLE user_map ON COMMIT DROP AS "
    "SELECT {key} AS owner, id AS user_id, mapped_at FROM users WHERE {key} IS NOT NULL"
)

GONE_ORDERS = (
    "CREATE TEMP TABLE gone_orders ON COMMIT DROP AS "
    f"SELECT a.subject AS order_id FROM absences a WHERE a.kind = 'order' AND {PROVEN}"
)

TAGGED_TWICE = f"""
SELECT cluster, vmid, tag FROM (
  SELECT s.cluster, s.vmid, t.tag, count(*) OVER (PARTITION BY s.cluster, t.tag) AS guests
  FROM stage_guests s CROSS JOIN LATERAL (SELECT DISTINCT unnest(s.tags) AS tag) t
  WHERE NOT s.template AND strpos(array_to_string(s.tags, ' '), 'pnl-') > 0 AND t.tag ~ '{IDENTITY_TAG}') tagged
WHERE guests > 1
"""
TAG_TWINS = f"CREATE TEMP TABLE tag_twins ON COMMIT DROP AS {TAGGED_TWICE}"

MACHINE_TWINS = """
CREATE TEMP TABLE machine_twins ON COMMIT DROP AS
SELECT fingerprint FROM vps WHERE deleted_at IS NULL AND fingerprint IS NOT NULL
GROUP BY fingerprint HAVING count(*) > 1
UNION
SELECT g.fingerprint FROM stage_guests s JOIN guests g ON g.cluster = s.cluster AND g.vmid = s.vmid
WHERE g.fingerprint IS NOT NULL GROUP BY g.fingerprint HAVING count(*) > 1
"""


def _says_the_same(column: RecordColumn) -> str:
    """SQL: whether an order's value of a column is the record's, or missing."""
    same = f"coalesce(o.{column.name} = r.{column.name}, true)"
    if not column.required:  # a value of the order that the record lacks is drift
        same = f"(o.{column.name} IS NULL OR o.{column.name} IS NOT DISTINCT FROM r.{column.name})"
    return f"(NOT :names OR {same})" if column.feed_names_only else same


SAYS_THE_SAME = "\n  AND ".join(map(_says_the_same, DRIFTING))

# Each row is joined by its own key, never by the customer. A table that was just filled or restored has no statistics,
# and then PostgreSQL's planner takes the customer for as good a key.
CONVERGED = f"""
CREATE TEMP TABLE converged ON COMMIT DROP AS
SELECT r.id, r.order_id, r.cluster, r.vmid
FROM vps r
JOIN orders_seen o ON o.order_id = r.order_id
JOIN guests g ON g.cluster = r.cluster AND g.vmid = r.vmid
JOIN stage_guests s ON s.cluster = g.cluster AND s.vmid = g.vmid
JOIN vps_queues l ON l.vps_id = r.id
WHERE r.deleted_at IS NULL AND r.link_state = 'verified' AND r.missing_since IS NULL AND r.hypervisor = 'proxmox'
  AND l.applied_seq = l.last_seq
  AND o.state = r.order_state
  AND (o.state = 'active' OR (o.state = 'suspended' AND g.power = 'stopped' AND r.power_state = 'stopped'))
  AND (o.panel_vps_id IS NULL OR o.panel_vps_id = r.id)
  AND r.user_id = (SELECT u.user_id FROM user_map u WHERE u.owner = o.owner)
  AND {SAYS_THE_SAME}
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
  AND NOT EXISTS (SELECT 1 FROM machine_twins t WHERE t.fingerprint = r.fingerprint)
"""

CONVERGED_NOTHING = """
CREATE TEMP TABLE converged ON COMMIT DROP AS SELECT id, order_id, cluster, vmid FROM vps WHERE false
"""

RECORDS = """
SELECT r.id FROM vps r WHERE r.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM converged s WHERE s.id = r.id)
"""

_DIFFERS = "NOT EXISTS (SELECT 1 FROM converged t WHERE t.order_id = o.order_id)"
# What is converged is left out first: the union of all orders would be far larger than the selection.
ORDERS = f"""
SELECT o.order_id FROM (
  SELECT o.order_id FROM orders_seen o WHERE o.state <> 'ended' AND {_DIFFERS}
  -- of ended orders only those with a record or a guest, each by its index: the other ended orders are years of them
  UNION SELECT o.order_id FROM vps r JOIN orders_seen o ON o.order_id = r.order_id
  WHERE r.deleted_at IS NULL AND {_DIFFERS}
  UNION SELECT o.order_id FROM vps r JOIN orders_seen o ON o.panel_vps_id = r.id
  WHERE r.deleted_at IS NULL AND {_DIFFERS}
  UNION SELECT o.order_id FROM stage_guests s JOIN orders_seen o ON o.cluster = s.cluster AND o.vmid = s.vmid
  WHERE {_DIFFERS}) o
WHERE NOT EXISTS (SELECT 1 FROM gone_orders x WHERE x.order_id = o.order_id)
"""

GUESTS = """
SELECT s.cluster, s.vmid FROM stage_guests s
WHERE NOT s.template AND NOT EXISTS (SELECT 1 FROM converged t WHERE t.cluster = s.cluster AND t.vmid = s.vmid)
"""

CANDIDATES = (
    ("pick_records", "id", "id bigint", RECORDS),
    ("pick_orders", "order_id", "order_id text", ORDERS),
    ("pick_guests", "cluster, vmid", "cluster text, vmid int", GUESTS),
)


def _seeds(place: int, table: str, key: str, columns: str, candidates: str) -> tuple[str, ...]:
    """The statements that draw the candidates of one kind. The kinds take turns in the numbers of their parts, so that
    many candidates of one kind leave room for the others."""
    return (
        f"CREATE TEMP TABLE {table} ({columns}, part bigint, wave int, PRIMARY KEY ({key})) ON COMMIT DROP",
        f"INSERT INTO {table} SELECT {key}, 3 * row_number() OVER () + {place}, 0"
        f" FROM ({candidates} ORDER BY random() LIMIT :most) s",
        f"CREATE INDEX ON {table} (wave)",
    )


SEEDS = tuple(_seeds(place, *of) for place, of in enumerate(CANDIDATES))

COUNTS = """
SELECT (SELECT count(*) FROM converged) AS settled, (SELECT count(*) FROM pick_records) AS records,
  (SELECT count(*) FROM pick_orders) AS orders, (SELECT count(*) FROM pick_guests) AS guests,
  (SELECT count(*) FROM entangled) AS entangled, (SELECT count(*) FROM parts WHERE NOT taken) AS parts_left
"""

LEFT = " + ".join(
    f"(SELECT count(*) FROM ({candidates}) s WHERE NOT EXISTS (SELECT 1 FROM {table} p WHERE ({key}) = ({columns})))"
    for table, key, _, candidates in CANDIDATES
    for columns in [", ".join(f"s.{column}" for column in key.split(", "))]
)
