"""Locks and reads what the calls of a batch name, in as few statements as the order of the locks allows.

A statement sees what was committed before it began. So what a lock protects is read by a later statement than the one
that waits for the lock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from panel.records.projection import Row
from panel.sessions import DirectStatements


@dataclass(frozen=True, slots=True)
class Named:
    """What calls name that needs no lock on a VPS queue."""

    users: list[int]
    """Those of the asked that the panel has."""

    keys: dict[str, dict[str, Any]]
    claims: dict[str, int]
    """VPS id by order id."""

    vps_ids: list[int]
    """New ones, for creates."""

    operation_ids: list[int]
    """New ones, in ascending order."""

    now: datetime


async def lock_names(statements: DirectStatements, names: Collection[str], lock_ms: int) -> None:
    """Lock order ids and idempotency keys, sorted, to the end of the transaction. Each wait ends after ``lock_ms``."""
    await statements.rows(LOCK_NAMES, {"names": sorted(names), "lock_ms": str(lock_ms)})


async def try_names(statements: DirectStatements, names: Collection[str]) -> set[str]:
    """Lock those of the names that are free. Returns them."""
    return {row["name"] for row in await statements.rows(TRY_NAMES, {"names": sorted(names)})}


async def load_named(
    statements: DirectStatements,
    *,
    users: Collection[int],
    creates: int,
    calls: int,
    key_scope: str,
    keys: Collection[str],
    orders: Collection[str],
    lock_ms: int | None,
) -> Named:
    """Read what needs no lock on a VPS queue, and draw new ids. ``lock_ms``: how long later statements of the
    transaction wait for a lock, if not as long as now."""
    asked = {
        "users": list(users),
        "creates": creates,
        "calls": calls,
        "key_scope": key_scope,
        "keys": list(keys),
        "orders": list(orders),
        "lock_ms": None if lock_ms is None else str(lock_ms),
    }
    (row,) = await statements.rows(LOAD_NAMED, asked)
    return Named(
        row["users"], row["keys"] or {}, row["claims"] or {}, row["vps_ids"], sorted(row["operation_ids"]), row["now"]
    )


async def lock_vps_queues(
    statements: DirectStatements, ids: Collection[int], *, skip_locked: bool
) -> dict[int, dict[str, Any]]:
    """Lock the queues of these VPSes, and of those that they were merged into, by id. Returns them by VPS id;
    ``skip_locked``: without those that another transaction has locked."""
    statement = LOCK_QUEUES + (" SKIP LOCKED" if skip_locked else "")
    return {row["vps_id"]: row for row in await statements.rows(statement, {"ids": list(ids)})}


async def survivors_of(statements: DirectStatements, ids: Collection[int]) -> dict[int, int | None]:
    """For each of these queues that exists, locked or not, the VPS that it was merged into."""
    return {row["vps_id"]: row["merged_into"] for row in await statements.rows(SURVIVORS, {"ids": list(ids)})}


async def load_records(statements: DirectStatements, ids: Collection[int]) -> tuple[datetime, dict[int, Row]]:
    """The time now and the records of these VPSes, under the locks of their queues."""
    rows = await statements.rows(RECORDS, {"ids": list(ids)})
    now: datetime = rows[0]["read_at"]
    for row in rows:
        del row["read_at"]
    return now, {row["id"]: row for row in rows if row["id"] is not None}


async def load_queued(statements: DirectStatements, ids: Collection[int]) -> list[dict[str, Any]]:
    """The queued operations of these VPSes, in the order of each queue."""
    return await statements.rows(QUEUED, {"ids": list(ids)})


async def last_deletes(statements: DirectStatements, ids: Collection[int]) -> dict[int, tuple[int, str]]:
    """(operation id, state) of the latest delete, by VPS."""
    rows = await statements.rows(LAST_DELETES, {"ids": list(ids)})
    return {row["vps_id"]: (row["id"], row["state"]) for row in rows}


async def creates_of(statements: DirectStatements, ids: Collection[int]) -> dict[int, int]:
    """The operations that created these records, or are about to, by VPS."""
    return {row["vps_id"]: row["id"] for row in await statements.rows(CREATES, {"ids": list(ids)})}


LOCK_NAMES = (
    "SELECT pg_advisory_xact_lock(hashtextextended(n, 0))"
    " FROM (SELECT set_config('lock_timeout', %(lock_ms)s, true) AS ms) w,"
    " unnest(CAST(%(names)s AS text[])) WITH ORDINALITY AS t(n, o) WHERE w.ms IS NOT NULL ORDER BY o"
)
"""The timeout is set before the first lock is waited for, because the locks are taken row by row, from sorted rows."""

TRY_NAMES = (
    "SELECT n AS name FROM unnest(CAST(%(names)s AS text[])) AS t(n)"
    " WHERE pg_try_advisory_xact_lock(hashtextextended(n, 0))"
)

LOAD_NAMED = (
    "SELECT clock_timestamp() AS now,"
    " CASE WHEN CAST(%(lock_ms)s AS text) IS NOT NULL"
    " THEN set_config('lock_timeout', CAST(%(lock_ms)s AS text), true) END AS lock_timeout,"
    " ARRAY(SELECT id FROM users WHERE id = ANY(CAST(%(users)s AS bigint[]))) AS users,"
    " ARRAY(SELECT nextval('vps_id_seq') FROM generate_series(1, %(creates)s)) AS vps_ids,"
    " ARRAY(SELECT nextval('operations_id_seq') FROM generate_series(1, %(calls)s)) AS operation_ids,"
    " (SELECT jsonb_object_agg(order_id, vps_id) FROM order_claims"
    "  WHERE order_id = ANY(CAST(%(orders)s AS text[]))) AS claims,"
    " (SELECT jsonb_object_agg(k.key, jsonb_build_object('body_hash', k.body_hash, 'operation_id', k.operation_id,"
    "  'vps_id', o.vps_id, 'status_code', k.status_code, 'answer', k.answer))"
    "  FROM idempotency_keys k JOIN operations o ON o.id = k.operation_id"
    "  WHERE k.scope = %(key_scope)s AND k.key = ANY(CAST(%(keys)s AS text[]))) AS keys"
)

LOCK_QUEUES = (
    "WITH RECURSIVE chain AS ("
    " SELECT vps_id, merged_into FROM vps_queues WHERE vps_id = ANY(CAST(%(ids)s AS bigint[]))"
    " UNION SELECT q.vps_id, q.merged_into FROM vps_queues q JOIN chain c ON q.vps_id = c.merged_into"
    ") SELECT vps_id, last_seq, queue_state, merged_into FROM vps_queues"
    " WHERE vps_id = ANY(ARRAY(SELECT vps_id FROM chain)) ORDER BY vps_id FOR UPDATE"
)

SURVIVORS = "SELECT vps_id, merged_into FROM vps_queues WHERE vps_id = ANY(CAST(%(ids)s AS bigint[]))"

RECORDS = (
    "SELECT n.read_at, v.* FROM (SELECT clock_timestamp() AS read_at) n"
    " LEFT JOIN vps v ON v.id = ANY(CAST(%(ids)s AS bigint[]))"
)

QUEUED = (
    "SELECT id, vps_id, action, payload, accepted_at FROM operations"
    " WHERE vps_id = ANY(CAST(%(ids)s AS bigint[])) AND state = 'queued' ORDER BY vps_id, seq"
)

LAST_DELETES = (
    "SELECT DISTINCT ON (vps_id) vps_id, id, state FROM operations"
    " WHERE vps_id = ANY(CAST(%(ids)s AS bigint[])) AND action = 'delete' ORDER BY vps_id, seq DESC"
)

CREATES = (
    "SELECT DISTINCT ON (vps_id) vps_id, id FROM operations"
    " WHERE vps_id = ANY(CAST(%(ids)s AS bigint[])) ORDER BY vps_id, action <> 'create', seq"
)
