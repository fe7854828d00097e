"""Everything that the calls of a batch name, as the journal has it. Read under locks, and kept up to date while the
calls are decided.

This module and the writer always take locks in the same order (order ids and idempotency keys sorted, then VPS queues
by id), so that API processes and workers cannot deadlock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from panel.deadlines import Deadlines
from panel.journal.calls import Call
from panel.records.projection import Row, project
from panel.schema import tables

KEY_SCOPE = "main-site"
"""Owner of the idempotency keys. During a rotation both API keys belong to the one main site."""


BRIEF_S = 0.15


class LockTimeout(Enum):
    """How long to wait for a lock that another transaction holds."""

    BRIEF = "brief"
    """``BRIEF_S``. Workers and other batches hold their locks for less, unless they are stuck."""
    NONE = "none"
    """Do not wait. Calls that would have to are left out, and have no outcome."""
    FULL = "full"
    """``Deadlines.lock_s``: as long as the caller's deadline allows."""


class JournalState:
    """The users, keys, orders, VPS queues, records and queued operations that the calls name."""

    def __init__(self, calls: list[Call], lock_timeout: LockTimeout, deadlines: Deadlines) -> None:
        self._calls = calls
        self._lock_timeout = lock_timeout
        self._lock_s = BRIEF_S if lock_timeout is LockTimeout.BRIEF else deadlines.lock_s
        self._locked_names: set[str] = set()
        self._locked_vps_queues: set[int] = set()
        self.users: set[int] = set()
        self.keys: dict[str, Mapping[str, Any]] = {}
        self.claims: dict[str, int] = {}
        self.vps_queues: dict[int, dict[str, Any]] = {}
        self.rows: dict[int, Row] = {}
        self.pending: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        self.last_deletes: dict[int, tuple[int, str]] = {}
        """(operation id, state) by VPS. A delete of this batch has no id yet: -1 stands for the batch's first
        operation, -2 for the second."""
        self.new_ids: list[int] = []
        self.now: datetime

    async def lock_names(self, connection: AsyncConnection) -> None:
        """Lock the calls' order ids and idempotency keys, sorted."""
        names = {f"order:{c.order_id}" for c in self._calls if c.order_id is not None}
        names |= {f"key:{c.idempotency_key}" for c in self._calls if c.idempotency_key}
        if names or any(c.vps_id is not None for c in self._calls):
            await connection.execute(SET_LOCK_TIMEOUT, {"ms": str(int(1000 * self._lock_s))})
        if not names:
            return
        if self._lock_timeout is LockTimeout.NONE:
            got = await connection.execute(TRY_NAMES, {"names": sorted(names)})
            self._locked_names = names - {row.name for row in got}
        else:
            await connection.execute(LOCK_NAMES, {"names": sorted(names)})

    def is_locked(self, call: Call) -> bool:
        """Whether another transaction has locked something that this call needs."""
        if not self._locked_names and not self._locked_vps_queues:
            return False
        claimed = self.claims.get(call.order_id or "")
        return (
            f"order:{call.order_id}" in self._locked_names
            or f"key:{call.idempotency_key}" in self._locked_names
            or call.vps_id in self._locked_vps_queues
            or claimed in self._locked_vps_queues
        )

    async def load(self, connection: AsyncConnection) -> None:
        """Lock the VPS queues, by id, and read everything that the calls name."""
        creates = [c for c in self._calls if c.action == "create"]
        if creates:
            wanted = {c.payload["user_id"] for c in creates}
            users = await connection.execute(select(tables.users.c.id).where(tables.users.c.id.in_(wanted)))
            self.users = {row.id for row in users}
            ids = await connection.execute(NEXT_IDS, {"count": len(creates)})
            self.new_ids = [row.id for row in ids]
        await self._load_keys(connection)
        orders = {c.order_id for c in self._calls if c.order_id is not None}
        if orders:
            order_claims = tables.order_claims
            claims = await connection.execute(
                select(order_claims.c.order_id, order_claims.c.vps_id).where(order_claims.c.order_id.in_(orders))
            )
            self.claims = {row.order_id: row.vps_id for row in claims}
        named = {c.vps_id for c in self._calls if c.vps_id is not None} | set(self.claims.values())
        await self._load_vps_queues(connection, named)
        # Read under the locks, so that the times of acceptance never run backwards along a queue.
        self.now = await connection.scalar(text("SELECT clock_timestamp()"))

    async def _load_keys(self, connection: AsyncConnection) -> None:
        wanted = {c.idempotency_key for c in self._calls if c.idempotency_key}
        if not wanted:
            return
        keys, operations = tables.idempotency_keys, tables.operations
        rows = await connection.execute(
            select(keys, operations.c.vps_id)
            .join(operations, operations.c.id == keys.c.operation_id)
            .where(keys.c.scope == KEY_SCOPE, keys.c.key.in_(wanted))
        )
        self.keys = {row.key: dict(row._mapping) for row in rows}

    async def _load_vps_queues(self, connection: AsyncConnection, named: Iterable[int]) -> None:
        ids = set(named)
        if not ids:
            return
        survivors = await connection.execute(SURVIVORS, {"ids": sorted(ids)})
        ids |= {row.vps_id for row in survivors}
        await self._lock_vps_queues(connection, ids)
        # A run may have merged one of them while its lock was awaited. The survivor is then locked out of order, which
        # may end in a deadlock: one of the two transactions is undone then, and tried again.
        while merged := {queue["merged_into"] for queue in self.vps_queues.values()} - ids - {None}:
            ids |= merged
            await self._lock_vps_queues(connection, merged)
        operations = tables.operations
        if self._lock_timeout is LockTimeout.NONE:
            await self._note_locked_vps_queues(connection, ids)
        rows = await connection.execute(select(tables.vps).where(tables.vps.c.id.in_(ids)))
        self.rows = {row.id: dict(row._mapping) for row in rows}
        queued = await connection.execute(
            select(operations)
            .where(operations.c.vps_id.in_(ids), operations.c.state == "queued")
            .order_by(operations.c.vps_id, operations.c.seq)
        )
        for row in queued:
            self.pending[row.vps_id].append(dict(row._mapping))
        deleted = [queue["vps_id"] for queue in self.vps_queues.values() if queue["queue_state"] == "deleted"]
        if deleted:
            deletes = await connection.execute(LAST_DELETES, {"ids": deleted})
            self.last_deletes = {row.vps_id: (row.id, row.state) for row in deletes}

    async def _lock_vps_queues(self, connection: AsyncConnection, ids: Iterable[int]) -> None:
        vps_queues = tables.vps_queues
        wanted = select(vps_queues).where(vps_queues.c.vps_id.in_(ids)).order_by(vps_queues.c.vps_id)
        queues = await connection.execute(wanted.with_for_update(skip_locked=self._lock_timeout is LockTimeout.NONE))
        self.vps_queues |= {row.vps_id: dict(row._mapping) for row in queues}

    async def _note_locked_vps_queues(self, connection: AsyncConnection, ids: set[int]) -> None:
        """Note the queues of ``ids`` that another transaction has locked, and all that were merged into one of them."""
        vps_queues = tables.vps_queues
        existing = await connection.execute(
            select(vps_queues.c.vps_id, vps_queues.c.merged_into)
            .where(vps_queues.c.vps_id.in_(ids))
            .order_by(vps_queues.c.vps_id)
        )
        survivor = {row.vps_id: row.merged_into for row in existing}
        self._locked_vps_queues = locked = set(survivor) - set(self.vps_queues)
        while more := {id_ for id_, into in survivor.items() if into in locked} - locked:
            locked |= more

    def follow(self, vps_id: int) -> dict[str, Any] | None:
        """The queue of a VPS, or of the VPS that it was merged into; None if there is none."""
        queue = self.vps_queues.get(vps_id)
        while queue is not None and queue.get("merged_into") is not None:
            queue = self.vps_queues.get(queue["merged_into"])
        return queue

    def of_order(self, order_id: str) -> dict[str, Any] | None:
        """The queue of the VPS that an order's claim leads to. None if there is none, or if that VPS belongs to another
        order by now: a run may have given it to the order that followed."""
        claimed = self.claims.get(order_id)
        queue = self.follow(claimed) if claimed is not None else None
        if queue is None:
            return None
        record = project(self.rows.get(queue["vps_id"]), self.pending[queue["vps_id"]])
        return queue if record is None or record["order_id"] == order_id else None

    def is_taken(self, order_id: str) -> bool:
        """Whether a VPS has the order, is about to get it, or is not deleted yet."""
        if (queue := self.of_order(order_id)) is None:
            return False
        row = self.rows.get(queue["vps_id"])
        return queue["queue_state"] == "live" or (row is not None and row["deleted_at"] is None)

    def projected(self, vps_id: int) -> Row:
        """The record as it will be once its queued operations are applied."""
        row = project(self.rows.get(vps_id), self.pending[vps_id])
        if row is None:
            raise RuntimeError(f"queue {vps_id} has neither a record nor a queued create")
        return row


LOCK_NAMES = text(
    "SELECT pg_advisory_xact_lock(hashtextextended(n, 0)) "
    "FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS t(n, o) ORDER BY o"
)
"""Locks order ids ("order:7") and keys to the end of the transaction. The caller sorts them."""

TRY_NAMES = text(
    "SELECT n AS name FROM unnest(CAST(:names AS text[])) AS t(n)"
    " WHERE pg_try_advisory_xact_lock(hashtextextended(n, 0))"
)
SET_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :ms, true)")

NEXT_IDS = text("SELECT nextval('vps_id_seq') AS id FROM generate_series(1, :count)")

SURVIVORS = text(
    "WITH RECURSIVE chain AS ("
    " SELECT merged_into AS vps_id FROM vps_queues WHERE vps_id = ANY(:ids) AND merged_into IS NOT NULL"
    " UNION SELECT l.merged_into FROM vps_queues l JOIN chain c ON l.vps_id = c.vps_id"
    " WHERE l.merged_into IS NOT NULL"
    ") SELECT vps_id FROM chain"
)

LAST_DELETES = text(
    "SELECT DISTINCT ON (vps_id) vps_id, id, state FROM operations WHERE vps_id = ANY(:ids) AND action = 'delete'"
    " ORDER BY vps_id, seq DESC"
)
