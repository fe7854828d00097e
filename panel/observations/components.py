"""Whole components within a budget: a run loads a candidate with all that its decision depends on, or not at all.

Orders, records and guests form a component if an id, an address, a machine, a name or an operator's adoption may bring
them together. They are decided together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, text

BUDGET = 80_000
"""How many orders, records and guests a run loads at most, so that a flood costs time and not memory.

Half of it is for components. They are taken until they fill a quarter of it. The last one is taken whole and has up to
a quarter itself: a larger component is not taken. The other half is for guests that may matter to any decision: a
quarter for those whose identity is not known, a quarter for those that no order and no record names.
"""


def quarter_of_budget(budget: int | None = None) -> int:
    """A quarter of the budget."""
    return (BUDGET if budget is None else budget) // 4


PICKED = ("pick_records", "pick_orders", "pick_guests")


@dataclass(frozen=True, slots=True)
class Entangled:
    """A component too large for one run's decision: its members by kind, how many customers they have, and one
    candidate of each kind in it, the same in every run."""

    orders: int
    records: int
    guests: int
    users: int
    vps_id: int | None
    order_id: str | None
    guest: str | None


def add_components(connection: Connection, most: int) -> None:
    """Widen the seeds in ``pick_records``, ``pick_orders`` and ``pick_guests`` to their components, and keep as many
    whole components as fit.

    Each seed starts a ``part`` with its own number. Parts that meet become one, under the least of their numbers. Parts
    are taken in that order until they have ``most`` members, so large components get their turn as often as small ones.
    A part of more than ``most`` members is set aside (``load_entangled``).
    """
    for statement in (*NAMES, MEETINGS):
        connection.execute(text(statement))
    wave = 0
    while connection.execute(text(STEP), {"wave": wave}).scalar_one():
        wave += 1
    _join_parts(connection)
    connection.execute(text(PARTS), {"most": most})
    connection.execute(text(ENTANGLED))
    for table in PICKED:
        connection.execute(text(f"DELETE FROM {table} p USING parts q WHERE q.part = p.part AND NOT q.taken"))
    connection.execute(text("ANALYZE pick_records, pick_orders, pick_guests"))


def _join_parts(connection: Connection) -> None:
    """Give parts that met one number. It works on numbers alone, so a chain of thousands is as fast as a cluster."""
    meetings = connection.execute(text("SELECT DISTINCT part, least FROM meetings"))
    least = _least_of((row.part, row.least) for row in meetings)
    if not least:
        return
    values = {"parts": list(least.keys()), "least": list(least.values())}
    connection.execute(text(JOINED), values)
    for table in PICKED:
        connection.execute(text(f"UPDATE {table} p SET part = j.least FROM joined j WHERE j.part = p.part"))


def _least_of(meetings: Iterable[tuple[int, int]]) -> dict[int, int]:
    """For each part that is joined to a lesser one: the least of all that it is joined with."""
    lesser: dict[int, int] = {}

    def least(part: int) -> int:
        passed = []
        while part in lesser:
            passed.append(part)
            part = lesser[part]
        lesser.update(dict.fromkeys(passed, part))
        return part

    for part, other in meetings:
        less, more = sorted((least(part), least(other)))
        if less != more:
            lesser[more] = less
    return {part: least(part) for part in tuple(lesser)}


def load_entangled(connection: Connection) -> tuple[Entangled, ...]:
    """The components that were set aside, largest first."""
    rows = connection.execute(text("SELECT * FROM entangled ORDER BY orders + records + guests DESC"))
    return tuple(Entangled(**row._mapping) for row in rows)


# A name ties an unlinked record to its customer's orders of the same name. An order that has a record already can own
# this one only if the answer to its create was lost, and only if it is the sole match. Two of each plan are enough to
# show that it is not the sole one.
NAMES = (
    """
    CREATE TEMP TABLE loose ON COMMIT DROP AS
    SELECT id, user_id, user_id::text AS customer, name, cpu, ram_mb, disk_gb, os, created_at FROM vps
    WHERE deleted_at IS NULL AND order_id IS NULL
    """,
    "CREATE UNIQUE INDEX ON loose (id)",
    "CREATE INDEX ON loose (customer, name)",
    "ANALYZE loose",
    """
    CREATE TEMP TABLE namesakes ON COMMIT DROP AS
    WITH named AS MATERIALIZED (SELECT user_id, name, min(created_at) AS oldest FROM loose GROUP BY user_id, name),
    theirs AS MATERIALIZED (
      SELECT u.user_id, o.order_id, o.name, o.state, o.state_since, o.cpu, o.ram_mb, o.disk_gb, o.os
      FROM (SELECT DISTINCT user_id FROM loose) u JOIN user_map m ON m.user_id = u.user_id
      JOIN orders_seen o ON o.owner = m.owner)
    SELECT order_id, user_id::text AS customer, name FROM (
      SELECT o.order_id, o.user_id, o.name, l.linked, row_number() OVER (
        PARTITION BY o.user_id, o.name, l.linked, o.cpu, o.ram_mb, o.disk_gb, o.os ORDER BY o.order_id) AS nth
      FROM named n JOIN theirs o ON o.user_id = n.user_id AND o.name = n.name
      CROSS JOIN LATERAL (SELECT o.state <> 'ended' AND EXISTS (
        SELECT 1 FROM vps r WHERE r.order_id = o.order_id AND r.deleted_at IS NULL) AS linked) l
      -- an order that ended before the oldest of the records was made owns none of them
      WHERE (o.state <> 'ended' OR o.state_since >= n.oldest)
        AND NOT EXISTS (SELECT 1 FROM gone_orders x WHERE x.order_id = o.order_id)) alike
    WHERE nth <= 2 OR NOT linked
    """,
    "CREATE UNIQUE INDEX ON namesakes (order_id)",
    "CREATE INDEX ON namesakes (customer, name)",
    "ANALYZE namesakes",
    # Proxmox refuses (403) the configuration of these guests: each counts as the machine last read there.
    """
    CREATE TEMP TABLE hidden ON COMMIT DROP AS
    SELECT cluster, vmid, previous_fingerprint AS fingerprint FROM guests
    WHERE fingerprint_state = 'forbidden' AND fingerprint IS NULL AND previous_fingerprint IS NOT NULL
    """,
    "CREATE INDEX ON hidden (cluster, vmid)",
    "CREATE INDEX ON hidden (fingerprint)",
)


MEETINGS = "CREATE TEMP TABLE meetings (part bigint, least bigint) ON COMMIT DROP"

# One step: ``r``, ``o`` and ``g`` are the records, orders and guests that the last step reached, and ``key`` what they
# may share with many. A tombstone is reached, too, but leads on only to the record that it was merged into and to the
# orders that name it.
RECORDS = """
SELECT x.id, o.part FROM pick_orders o JOIN vps x ON x.order_id = o.order_id WHERE o.wave = :wave
UNION SELECT x.id, o.part FROM o JOIN vps x ON x.id = o.panel_vps_id
UNION SELECT x.id, g.part FROM g JOIN vps x ON x.cluster = g.cluster AND x.vmid = g.vmid WHERE x.deleted_at IS NULL
UNION SELECT x.id, g.part FROM g JOIN vps x ON x.claimed_cluster = g.cluster AND x.claimed_vmid = g.vmid
  WHERE x.claimed_vmid IS NOT NULL AND x.deleted_at IS NULL
UNION SELECT merged_into, part FROM r WHERE merged_into IS NOT NULL
UNION SELECT x.id, r.part FROM r JOIN vps x ON x.merged_into = r.id
UNION SELECT x.id, k.part FROM key k JOIN vps x ON x.fingerprint = k.value WHERE k.kind = 'machine'
UNION SELECT x.id, k.part FROM key k JOIN loose x ON x.customer = k.scope AND x.name = k.value WHERE k.kind = 'name'
"""

ORDERS = """
SELECT order_id, part FROM r WHERE order_id IS NOT NULL AND deleted_at IS NULL
UNION SELECT x.order_id, r.part FROM r JOIN orders_seen x ON x.panel_vps_id = r.id
UNION SELECT x.order_id, g.part FROM g JOIN orders_seen x ON x.cluster = g.cluster AND x.vmid = g.vmid
UNION SELECT x.order_id, g.part FROM g JOIN adoptions x ON x.cluster = g.cluster AND x.vmid = g.vmid
  WHERE x.ended_at IS NULL
UNION SELECT x.order_id, k.part FROM key k JOIN namesakes x ON x.customer = k.scope AND x.name = k.value
  WHERE k.kind = 'name'
"""

GUESTS = """
SELECT cluster, vmid, part FROM r WHERE vmid IS NOT NULL AND deleted_at IS NULL
UNION SELECT claimed_cluster, claimed_vmid, part FROM r WHERE claimed_vmid IS NOT NULL AND deleted_at IS NULL
UNION SELECT cluster, vmid, part FROM o WHERE cluster IS NOT NULL AND vmid IS NOT NULL
UNION SELECT x.cluster, x.vmid, o.part FROM o JOIN adoptions x ON x.order_id = o.order_id WHERE x.ended_at IS NULL
UNION SELECT x.cluster, x.vmid, k.part FROM key k JOIN guests x ON x.fingerprint = k.value WHERE k.kind = 'machine'
UNION SELECT x.cluster, x.vmid, k.part FROM key k JOIN hidden x ON x.fingerprint = k.value WHERE k.kind = 'machine'
UNION SELECT x.cluster, x.vmid, k.part FROM key k JOIN tag_twins x ON x.cluster = k.scope AND x.tag = k.value
  WHERE k.kind = 'tag'
"""

KEYS = """
SELECT 'machine' AS kind, '' AS scope, fingerprint AS value, part FROM r WHERE deleted_at IS NULL
UNION SELECT 'machine', '', x.fingerprint, g.part FROM g JOIN guests x ON x.cluster = g.cluster AND x.vmid = g.vmid
UNION SELECT 'machine', '', x.fingerprint, g.part FROM g JOIN hidden x ON x.cluster = g.cluster AND x.vmid = g.vmid
UNION SELECT 'tag', x.cluster, x.tag, g.part FROM g JOIN tag_twins x ON x.cluster = g.cluster AND x.vmid = g.vmid
UNION SELECT 'name', x.customer, x.name, o.part FROM o JOIN namesakes x ON x.order_id = o.order_id
UNION SELECT 'name', x.customer, x.name, r.part FROM r JOIN loose x ON x.id = r.id
  WHERE EXISTS (SELECT 1 FROM namesakes n WHERE n.customer = x.customer AND n.name = x.name)
"""


def _reached(what: str, key: str, ties: str) -> str:
    """SQL for one kind in a step: the rows that are reached, from which parts, and the part that owns each. Rows that
    no part had reached before are added to the selection."""
    same = " AND ".join(f"p.{column} = t.{column}" for column in key.split(", "))
    own = ", ".join(f"t.{column}" for column in key.split(", "))
    return f"""
{what} AS (
  SELECT {own}, t.part, coalesce(p.part, min(t.part) OVER (PARTITION BY {own})) AS least, p.part IS NULL AS unknown
  FROM ({ties}) t LEFT JOIN pick_{what} p ON {same}),
new_{what} AS (
  INSERT INTO pick_{what} SELECT DISTINCT {key}, least, :wave + 1 FROM {what} WHERE unknown RETURNING 1)"""


# A key shared by many is followed once, for the least of their parts, not once for each pair of them.
STEP = f"""
WITH r AS (
  SELECT r.id, r.order_id, r.cluster, r.vmid, r.claimed_cluster, r.claimed_vmid, r.fingerprint, r.deleted_at,
    r.merged_into, p.part
  FROM pick_records p JOIN vps r ON r.id = p.id WHERE p.wave = :wave),
o AS (
  SELECT o.order_id, o.panel_vps_id, o.cluster, o.vmid, p.part
  FROM pick_orders p JOIN orders_seen o ON o.order_id = p.order_id WHERE p.wave = :wave),
g AS (SELECT p.cluster, p.vmid, p.part FROM pick_guests p WHERE p.wave = :wave),
keys AS (
  SELECT kind, scope, value, part, min(part) OVER (PARTITION BY kind, scope, value) AS least
  FROM ({KEYS}) k WHERE value IS NOT NULL),
key AS (SELECT DISTINCT kind, scope, value, least AS part FROM keys),
{_reached("records", "id", RECORDS)},
{_reached("orders", "order_id", ORDERS)},
{_reached("guests", "cluster, vmid", GUESTS)},
met AS (
  INSERT INTO meetings SELECT part, least FROM (
    SELECT part, least FROM keys UNION SELECT part, least FROM records
    UNION SELECT part, least FROM orders UNION SELECT part, least FROM guests) m
  WHERE part <> least)
SELECT (SELECT count(*) FROM new_records) + (SELECT count(*) FROM new_orders) + (SELECT count(*) FROM new_guests)
"""

JOINED = """
CREATE TEMP TABLE joined ON COMMIT DROP AS
SELECT part, least FROM unnest(CAST(:parts AS bigint[]), CAST(:least AS bigint[])) AS j(part, least)
"""

PARTS = """
CREATE TEMP TABLE parts ON COMMIT DROP AS
SELECT part, size, size <= :most AND coalesce(sum(size) FILTER (WHERE size <= :most) OVER (
  ORDER BY part ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) < :most AS taken, size > :most AS entangled
FROM (SELECT part, count(*) AS size FROM (
  SELECT part FROM pick_records UNION ALL SELECT part FROM pick_orders UNION ALL SELECT part FROM pick_guests) members
  GROUP BY part) sizes
"""

# An entangled component is named by a member that is itself a candidate: a run that does not meet it leaves it open.
ENTANGLED = """
CREATE TEMP TABLE entangled ON COMMIT DROP AS
SELECT o.orders, r.records, g.guests, r.users, r.vps_id, o.order_id, g.guest
FROM (SELECT part FROM parts WHERE entangled) q
CROSS JOIN LATERAL (
  SELECT count(*) AS records, count(DISTINCT r.user_id) AS users,
    min(r.id) FILTER (WHERE r.deleted_at IS NULL AND s.id IS NULL) AS vps_id
  FROM pick_records p JOIN vps r ON r.id = p.id LEFT JOIN converged s ON s.id = p.id WHERE p.part = q.part) r
CROSS JOIN LATERAL (
  SELECT count(*) AS orders, min(p.order_id) FILTER (WHERE s.id IS NULL) AS order_id
  FROM pick_orders p LEFT JOIN converged s ON s.order_id = p.order_id WHERE p.part = q.part) o
CROSS JOIN LATERAL (
  SELECT count(*) AS guests, min(p.cluster || '/' || p.vmid) FILTER (WHERE s.id IS NULL) AS guest
  FROM pick_guests p LEFT JOIN converged s ON s.cluster = p.cluster AND s.vmid = p.vmid WHERE p.part = q.part) g
"""
