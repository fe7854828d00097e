"""The panel's memory of the outside: guests, orders, snapshots and absences.

A read is streamed into temporary tables by COPY and merged by a few set-based statements, so that memory stays
flat and a quiet fleet costs the few rows that say what was read when. Nothing here touches a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, text

from domain.orders import Order
from domain.record_columns import Kind, RecordColumn, ValueSource, given_by, names
from panel.observations import identity_doubts
from panel.observations.listed_guests import LISTED_STAGES

_GIVEN = given_by(ValueSource.ORDER)
_FEED_COLUMNS = (
    "state", "status", "owner", "panel_vps_id", "panel_vps_id_given", *names(_GIVEN), "created_at", "updated_at",
)  # fmt: skip
_values_of = attrgetter("order_id", *_FEED_COLUMNS)
ORDER_COLUMNS = ("order_id", *_FEED_COLUMNS, "effective_at", "scope")


def make_stages(connection: Connection) -> None:
    """Make the run's temporary tables. They end with the run's turn."""
    for statement in STAGES:
        connection.execute(text(statement))
    connection.commit()


def order_row(order: Order, effective: datetime | None, scope: str) -> tuple[Any, ...]:
    """An order's values, arranged as ORDER_COLUMNS. ``effective``: the time for which they are known to be true."""
    return (*_values_of(order), effective, scope)  # a word of ours is a text for the driver, too


@dataclass(frozen=True, slots=True)
class ScopeRead:
    """One read of one scope of a source: a node's guests, or all. ``problem``: why it is not complete."""

    source: str
    scope: str
    complete: bool
    count: int
    problem: str | None
    effective_at: datetime | None = None


def record_snapshots(
    connection: Connection, run_id: int, began_at: datetime, reads: Sequence[ScopeRead]
) -> dict[tuple[str, str], int]:
    """Store reads that began at the same time; a complete one becomes its scope's latest. Returns the snapshots' ids by
    source and scope."""
    columns = ("source", "scope", "complete", "count", "problem", "effective_at")
    values = {column: [getattr(read, column) for read in reads] for column in columns}
    rows = connection.execute(text(RECORD_SNAPSHOTS), {**values, "run": run_id, "began": began_at})
    return {(row.source, row.scope): row.id for row in rows}


def record_evidence(
    connection: Connection,
    run_id: int,
    source: str,
    scopes: Sequence[str],
    *,
    count: int,
    began_at: datetime,
    effective_at: datetime,
) -> dict[str, int]:
    """Store a complete read of each of these scopes as evidence of what it lacks. Returns the snapshot ids by scope."""
    values = {"run": run_id, "source": source, "scopes": list(scopes), "count": count, "began": began_at}
    rows = connection.execute(text(RECORD_EVIDENCE), values | {"effective": effective_at})
    return {row.scope: row.id for row in rows}


def scope_time(connection: Connection, source: str, scope: str) -> datetime | None:
    """When the last complete read of a scope began (database clock)."""
    began_at: datetime | None = connection.scalar(
        text("SELECT began_at FROM scopes WHERE source = :source AND scope = :scope"),
        {"source": source, "scope": scope},
    )
    return began_at


def vanished_orders(connection: Connection, scopes: Sequence[str], limit: int) -> list[str]:
    """The orders that ``missing_orders`` counts, at most ``limit``."""
    values = {"scopes": list(scopes), "limit": limit}
    return [row.order_id for row in connection.execute(text(VANISHED_ORDERS), values)]


def merge_orders(connection: Connection, feed: str, began_at: datetime) -> None:
    """Merge the orders of a read into ``orders_seen``, and put guests in doubt if an order that names them changed. An
    order that shows nothing new, and with which its record has long agreed, is not written: the stage has the time of
    this read."""
    connection.execute(text(ENDED_KEEPS_GUEST))
    identity_doubts.doubt_by_orders(connection, feed)
    connection.execute(text(MERGE_ORDERS), {"began": began_at, "feed": feed})
    connection.execute(text(ORDERS_BACK), {"feed": feed})
    connection.execute(text(ORDERS_LISTED), {"feed": feed})


def note_unlisted_orders(
    connection: Connection, scopes: Sequence[str], began_at: datetime, effective_at: datetime
) -> None:
    """Store since when complete sweeps of its scope lack a known order, also an order that ended long ago."""
    values = {"scopes": list(scopes), "began": began_at, "effective": effective_at}
    connection.execute(text(ORDERS_UNLISTED), values)


def missing_orders(connection: Connection, scopes: Sequence[str]) -> tuple[int, int]:
    """(known orders of complete scopes that this sweep is the first to miss, known orders)."""
    row = connection.execute(text(MISSING_ORDERS), {"scopes": list(scopes)}).one()
    return row.missing, row.known


def store_fingerprint(
    connection: Connection,
    cluster: str,
    vmid: int,
    fingerprint: str | None,
    state: str,
    read_at: datetime,
    name: str | None = None,
    changed_at: datetime | None = None,
    ip_address: str | None = None,
) -> bool:
    """Store the identity and the address that a guest's configuration gave; another fingerprint, or none, starts the
    count again. A ``state`` of "forbidden" gave none, so the known ones stay.

    Returns False and stores nothing in three cases, because the configuration may be another machine's. It has another
    ``name`` than the list: the VMID was given away, and the list still shows the previous machine with its power. A
    list changed the guest after ``changed_at``, if given. A doubt arose after the configuration was asked for.
    """
    values = {"cluster": cluster, "vmid": vmid, "fingerprint": fingerprint, "state": state, "at": read_at, "name": name}
    values |= {"changed": changed_at, "ip_address": ip_address}
    return connection.execute(text(STORE_FINGERPRINT), values).rowcount > 0


def _staged(column: RecordColumn) -> str:
    return f"{column.name} {'int' if column.kind is Kind.WHOLE else 'text'}"


STAGES = (
    "CREATE TEMP TABLE stage_guests (cluster text, vmid int, guest_type text, node text, status text, power text,"
    " name text, lock text, template boolean, cores float8, memory_mb int, disk_gb int, tags text[],"
    " uptime_s float8, PRIMARY KEY (cluster, vmid))",
    "CREATE TEMP TABLE stage_orders (order_id text PRIMARY KEY, state text, status text, owner text,"
    f" panel_vps_id bigint, panel_vps_id_given boolean, {', '.join(map(_staged, _GIVEN))}, created_at timestamptz,"
    " updated_at timestamptz, effective_at timestamptz, scope text)",
    *LISTED_STAGES,
)

RECORD_EVIDENCE = """
INSERT INTO snapshots (run_id, source, scope, complete, count, began_at, effective_at)
SELECT :run, :source, s.scope, true, :count, :began, :effective FROM unnest(CAST(:scopes AS text[])) AS s(scope)
RETURNING scope, id
"""

RECORD_SNAPSHOTS = """
WITH noted AS (
  INSERT INTO snapshots (run_id, source, scope, complete, count, problem, began_at, effective_at)
  SELECT :run, r.source, r.scope, r.complete, r.count, r.problem, :began, r.effective_at
  FROM unnest(CAST(:source AS text[]), CAST(:scope AS text[]), CAST(:complete AS boolean[]), CAST(:count AS int[]),
    CAST(:problem AS text[]), CAST(:effective_at AS timestamptz[]))
    AS r(source, scope, complete, count, problem, effective_at)
  RETURNING id, source, scope, complete, count, coalesce(effective_at, began_at) AS began_at),
latest AS (
  INSERT INTO scopes (source, scope, snapshot_id, began_at, count)
  SELECT DISTINCT ON (source, scope) source, scope, id, began_at, count FROM noted WHERE complete
  ORDER BY source, scope, id DESC
  ON CONFLICT (source, scope) DO UPDATE
  SET snapshot_id = excluded.snapshot_id, began_at = excluded.began_at, count = excluded.count
  WHERE scopes.began_at <= excluded.began_at
    OR scopes.began_at > clock_timestamp())  -- the database's clock went back since
SELECT source, scope, id FROM noted
"""
_ORDER_DIFFERS = (
    f"({', '.join(f'k.{c}' for c in _FEED_COLUMNS)}) IS DISTINCT FROM ({', '.join(f's.{c}' for c in _FEED_COLUMNS)})"
)

# A decision compares an order's time with its record's times. Once both have agreed for an hour, a newer time changes
# no comparison.
_CONVERGED_ORDER = """
(EXISTS (SELECT 1 FROM vps r WHERE r.order_id = k.order_id AND r.deleted_at IS NULL AND r.order_state = k.state
         AND r.updated_at < k.effective_at - interval '1 hour')
 OR (k.state = 'ended' AND NOT EXISTS (
       SELECT 1 FROM vps r WHERE r.order_id = k.order_id
         AND coalesce(r.deleted_at > k.effective_at - interval '1 hour', true))
     AND NOT EXISTS (
       SELECT 1 FROM vps r WHERE r.id = k.panel_vps_id
         AND coalesce(r.deleted_at > k.effective_at - interval '1 hour', true))))
"""

# A main site that clears an order's guest when the order ends does not say that the guest is gone.
ENDED_KEEPS_GUEST = """
UPDATE stage_orders s SET cluster = o.cluster, vmid = o.vmid FROM orders_seen o
WHERE o.order_id = s.order_id AND s.state = 'ended' AND s.vmid IS NULL AND o.vmid IS NOT NULL
"""

# An answer that is older than the last complete sweep is not merged, even if that sweep changed nothing.
MERGE_ORDERS = f"""
INSERT INTO orders_seen AS o (order_id, {", ".join(_FEED_COLUMNS)}, state_since, owner_since, guest_since,
  first_seen_at, changed_at, effective_at)
SELECT s.order_id, {", ".join(f"s.{column}" for column in _FEED_COLUMNS)}, coalesce(s.effective_at, :began),
  least(s.effective_at, :began),  -- one time for the whole read: an owner on a later page is not newer than the first
  :began, :began, :began, s.effective_at
FROM stage_orders s
LEFT JOIN orders_seen k ON k.order_id = s.order_id
LEFT JOIN scopes c ON c.source = :feed AND c.scope = s.scope
WHERE k.order_id IS NULL OR (({_ORDER_DIFFERS} OR NOT {_CONVERGED_ORDER})
  AND (k.effective_at IS NULL OR s.effective_at > k.effective_at) AND (s.effective_at < c.began_at) IS NOT TRUE)
ON CONFLICT (order_id) DO UPDATE SET
  {", ".join(f"{column} = excluded.{column}" for column in _FEED_COLUMNS)},
  state_since = CASE WHEN o.state = excluded.state THEN o.state_since ELSE excluded.state_since END,
  owner_since = CASE WHEN o.owner IS NOT DISTINCT FROM excluded.owner THEN o.owner_since
                     ELSE excluded.owner_since END,
  guest_since = CASE WHEN (o.cluster, o.vmid) IS NOT DISTINCT FROM (excluded.cluster, excluded.vmid)
                     THEN o.guest_since ELSE excluded.guest_since END,
  changed_at = excluded.changed_at, effective_at = excluded.effective_at
"""

# An old copy of the feed shows orders that have gone since: it brings none of them back.
ORDERS_BACK = """
DELETE FROM absences a USING stage_orders s LEFT JOIN scopes c ON c.source = :feed AND c.scope = s.scope
WHERE a.kind = 'order' AND a.subject = s.order_id
  AND (s.effective_at < c.began_at) IS NOT TRUE AND (s.effective_at < a.last_absent_at) IS NOT TRUE
"""
ORDERS_LISTED = """
UPDATE orders_seen o SET unlisted_since = NULL
FROM stage_orders s LEFT JOIN scopes c ON c.source = :feed AND c.scope = s.scope
WHERE s.order_id = o.order_id AND o.unlisted_since IS NOT NULL AND (s.effective_at < c.began_at) IS NOT TRUE
"""
# What was seen later than this content lacks it is not missing.
ORDERS_UNLISTED = """
UPDATE orders_seen o SET unlisted_since = :began
WHERE o.unlisted_since IS NULL AND (o.effective_at > :effective) IS NOT TRUE
  AND ('all' = ANY(CAST(:scopes AS text[])) OR 'user:' || o.owner = ANY(:scopes))
  AND NOT EXISTS (SELECT 1 FROM stage_orders s WHERE s.order_id = o.order_id)
"""

_KNOWN_ORDERS = """
FROM orders_seen o
LEFT JOIN stage_orders s ON s.order_id = o.order_id
LEFT JOIN absences a ON a.kind = 'order' AND a.subject = o.order_id
WHERE o.state <> 'ended' AND ('all' = ANY(:scopes) OR 'user:' || o.owner = ANY(:scopes)) AND a.subject IS NULL
"""
MISSING_ORDERS = f"SELECT count(*) FILTER (WHERE s.order_id IS NULL) AS missing, count(*) AS known {_KNOWN_ORDERS}"
VANISHED_ORDERS = f"SELECT o.order_id {_KNOWN_ORDERS} AND s.order_id IS NULL LIMIT :limit"

# On 403 a guest keeps its fingerprint while its list shows nothing new. A guest that was read and has no fingerprint,
# or that is refused after its list showed something new, has no known identity.
_FORBIDDEN = "CAST(:state AS text) = 'forbidden'"
_KEPT_FINGERPRINT = "CASE WHEN fingerprint_state IN ('read', 'forbidden') THEN fingerprint END"
_IDENTITY = f"CASE WHEN {_FORBIDDEN} THEN {_KEPT_FINGERPRINT} ELSE CAST(:fingerprint AS text) END"
_OTHER_MACHINE = f"fingerprint IS NOT NULL AND fingerprint IS DISTINCT FROM {_IDENTITY}"

STORE_FINGERPRINT = f"""
UPDATE guests SET
  fingerprint_seen = CASE WHEN {_FORBIDDEN} THEN fingerprint_seen
                          WHEN fingerprint IS NOT DISTINCT FROM :fingerprint THEN fingerprint_seen + 1 ELSE 1 END,
  fingerprint_since = CASE WHEN {_FORBIDDEN} OR fingerprint IS NOT DISTINCT FROM :fingerprint
                           THEN coalesce(fingerprint_since, :at) ELSE :at END,
  previous_fingerprint = CASE WHEN {_OTHER_MACHINE} THEN fingerprint ELSE previous_fingerprint END,
  first_seen_at = CASE WHEN fingerprint IS DISTINCT FROM {_IDENTITY} THEN :at ELSE first_seen_at END,
  fingerprint = {_IDENTITY}, fingerprint_state = :state, fingerprint_read_at = :at, doubt = NULL, doubted_at = NULL,
  ip_address = CASE WHEN {_FORBIDDEN} THEN ip_address ELSE :ip_address END
WHERE cluster = :cluster AND vmid = :vmid AND (name = :name) IS NOT FALSE
  AND (doubted_at <= :at) IS NOT FALSE
  AND (changed_at = CAST(:changed AS timestamptz)) IS NOT FALSE
"""
