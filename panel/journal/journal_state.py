"""Everything that the calls of a batch name, as the journal has it. Read under locks, and kept up to date while the
calls are decided.

This module and the writer always take locks in the same order (order ids and idempotency keys sorted, then VPS queues
by id), so that API processes and workers cannot deadlock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from panel.deadlines import Deadlines
from panel.journal.accepting import batch_reads
from panel.journal.calls import Call
from panel.records.projection import Row, project
from panel.sessions import DirectStatements

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
        self._lock_ms = int(1000 * (BRIEF_S if lock_timeout is LockTimeout.BRIEF else deadlines.lock_s))
        self._locked_names: set[str] = set()
        self._locked_vps_queues: set[int] = set()
        self.users: set[int] = set()
        self.keys: dict[str, Mapping[str, Any]] = {}
        self.claims: dict[str, int] = {}
        self.vps_queues: dict[int, dict[str, Any]] = {}
        self.rows: dict[int, Row] = {}
        self.pending: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        self.last_deletes: dict[int, tuple[int, str]] = {}
        """(operation id, state) by VPS."""
        self.new_ids: list[int] = []
        """Of VPSes, one for each create."""
        self.operation_ids: list[int] = []
        """Of operations, one for each call."""
        self.now: datetime

    async def lock_names(self, statements: DirectStatements) -> None:
        """Lock the calls' order ids and idempotency keys, sorted."""
        names = {f"order:{c.order_id}" for c in self._calls if c.order_id is not None}
        names |= {f"key:{c.idempotency_key}" for c in self._calls if c.idempotency_key}
        if not names:
            return
        if self._lock_timeout is LockTimeout.NONE:
            self._locked_names = names - await batch_reads.try_names(statements, names)
        else:
            await batch_reads.lock_names(statements, names, self._lock_ms)

    def is_locked(self, call: Call) -> bool:
        """Whether another transaction has locked something that this call needs."""
        if not self._locked_names and not self._locked_vps_queues:
            return False
        claimed = self.claims.get(call.order_id or "")
        return (
            (call.order_id is not None and f"order:{call.order_id}" in self._locked_names)
            or (call.idempotency_key is not None and f"key:{call.idempotency_key}" in self._locked_names)
            or call.vps_id in self._locked_vps_queues
            or claimed in self._locked_vps_queues
        )

    async def load(self, statements: DirectStatements) -> None:
        """Lock the VPS queues, by id, and read everything that the calls name."""
        calls = self._calls
        ids = {c.vps_id for c in calls if c.vps_id is not None}
        orders = {c.order_id for c in calls if c.order_id is not None}
        creates = [c for c in calls if c.action == "create"]
        named = await batch_reads.load_named(
            statements,
            users={c.payload["user_id"] for c in creates},
            creates=len(creates),
            calls=len(calls),
            key_scope=KEY_SCOPE,
            keys={c.idempotency_key for c in calls if c.idempotency_key},
            orders=orders,
            lock_ms=self._lock_ms if ids or orders else None,
        )
        self.users, self.keys, self.claims = set(named.users), dict(named.keys), named.claims
        self.new_ids, self.operation_ids, self.now = named.vps_ids, named.operation_ids, named.now
        ids |= set(self.claims.values())
        if ids:
            await self._load_vps_queues(statements, ids)

    async def _load_vps_queues(self, statements: DirectStatements, ids: set[int]) -> None:
        skip = self._lock_timeout is LockTimeout.NONE
        self.vps_queues = await batch_reads.lock_vps_queues(statements, ids, skip_locked=skip)
        ids |= self.vps_queues.keys()
        # A run may have merged one of them while its lock was awaited. The survivor is then locked out of order, which
        # may end in a deadlock: one of the two transactions is undone then, and tried again.
        while merged := {queue["merged_into"] for queue in self.vps_queues.values()} - ids - {None}:
            ids |= merged
            self.vps_queues |= await batch_reads.lock_vps_queues(statements, merged, skip_locked=skip)
        if skip:
            self._note_locked_vps_queues(await batch_reads.survivors_of(statements, ids))
        # The time is read under the locks, so that the times of acceptance never run backwards along a queue.
        self.now, self.rows = await batch_reads.load_records(statements, ids)
        for row in await batch_reads.load_queued(statements, ids):
            self.pending[row["vps_id"]].append(row)
        deleted = [queue["vps_id"] for queue in self.vps_queues.values() if queue["queue_state"] == "deleted"]
        if deleted:
            self.last_deletes = await batch_reads.last_deletes(statements, deleted)

    def _note_locked_vps_queues(self, survivors: Mapping[int, int | None]) -> None:
        """Note the queues that another transaction has locked, and all that were merged into one of them.
        ``survivors``: every queue that is named, with the VPS that it was merged into."""
        self._locked_vps_queues = locked = set(survivors) - set(self.vps_queues)
        while more := {id_ for id_, into in survivors.items() if into in locked} - locked:
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
