"""One batch of sync calls in one transaction: decide each call against the journal, write what is accepted.

Locks are always taken in the same order (order ids and idempotency keys sorted, then lanes by id), here and
in the writer, so that batches of several API processes and workers cannot deadlock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import bindparam, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from panel.deadlines import DEFAULT, Deadlines
from panel.journal.calls import Accepted, Call, Outcome, Refused, Replayed
from panel.journal.refusals import note_refusals
from panel.records.projection import Row, new_row, project
from panel.records.public import public_record, success_body
from panel.schema import tables

JOURNAL_CHANNEL = "panel_journal"
"""NOTIFY here wakes the relay."""

KEY_SCOPE = "main-site"
"""Whose idempotency keys these are. Both live API keys of a rotation belong to the one main site."""


BRIEF_S = 0.15


class Patience(Enum):
    """How long to wait for what another transaction holds."""

    BRIEF = "brief"
    """``BRIEF_S``: what workers and other batches need; longer is somebody who is stuck."""
    NONE = "none"
    """Calls that would have to wait are left out, and have no outcome."""
    FULL = "full"
    """``Deadlines.lock_s``: as long as the time of an answer allows."""


class Batch:
    """The calls of one transaction and what becomes of each.

    ``outcomes``: in the same order, None for a call that was left out (``Patience.NONE``).
    """

    def __init__(self, calls: list[Call], patience: Patience = Patience.FULL, deadlines: Deadlines = DEFAULT) -> None:
        self.calls = calls
        self.outcomes: list[Outcome | None] = []
        self._patience = patience
        self._lock_s = BRIEF_S if patience is Patience.BRIEF else deadlines.lock_s
        self._held_names: set[str] = set()
        self._held_lanes: set[int] = set()
        self.xid: str | None = None
        self._users: set[int] = set()
        self._keys: dict[str, Mapping[str, Any]] = {}
        self._claims: dict[str, int] = {}
        self._lanes: dict[int, dict[str, Any]] = {}
        self._rows: dict[int, Row] = {}
        self._pending: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        self._last_deletes: dict[int, tuple[int, str]] = {}
        """(operation id, state) by VPS. One of this batch has no id yet: -1 is the first of _operations, and so on."""
        self._now: datetime
        self._new_ids: list[int] = []
        self._new_lanes: list[dict[str, Any]] = []
        self._touched: dict[int, dict[str, Any]] = {}
        self._operations: list[dict[str, Any]] = []
        self._journaled: list[int] = []  # the ids of _operations, once written
        self._new_claims: dict[str, tuple[int, int]] = {}  # order id -> (vps id, index into _operations)
        self._new_keys: list[tuple[int, Call]] = []  # outcome index
        self._refusals: list[dict[str, Any]] = []
        self._nudge_users = False

    @property
    def single_operation_id(self) -> int | None:
        """The operation of a batch of one, to be told to a caller whose commit is in doubt."""
        only = self.outcomes[0] if len(self.outcomes) == 1 else None
        return only.operation_id if isinstance(only, Accepted) else None

    async def decide_and_write(self, connection: AsyncConnection) -> None:
        """Everything but the COMMIT."""
        await self._lock_names(connection)
        await self._load(connection)
        for index, call in enumerate(self.calls):
            self.outcomes.append(None if self._is_held(call) else self._decide(index, call))
        await self._write(connection)
        self.xid = await connection.scalar(text("SELECT pg_current_xact_id_if_assigned()::text"))

    async def is_there(self, connection: AsyncConnection) -> bool:
        """Whether everything that this batch journaled can be read.

        By id *and* time of acceptance: a server that crashed gives lost ids out again, too.
        """
        operations = tables.operations
        ids = self._journaled
        found = await connection.scalar(
            select(func.count())
            .select_from(operations)
            .where(operations.c.id.in_(ids), operations.c.accepted_at == self._now)
        )
        return found == len(ids)

    # --- reading

    async def _lock_names(self, connection: AsyncConnection) -> None:
        names = {f"order:{c.order_id}" for c in self.calls if c.order_id is not None}
        names |= {f"key:{c.idempotency_key}" for c in self.calls if c.idempotency_key}
        if names or any(c.vps_id is not None for c in self.calls):
            await connection.execute(PATIENCE, {"ms": str(int(1000 * self._lock_s))})
        if not names:
            return
        if self._patience is Patience.NONE:
            got = await connection.execute(TRY_NAMES, {"names": sorted(names)})
            self._held_names = names - {row.name for row in got}
        else:
            await connection.execute(LOCK_NAMES, {"names": sorted(names)})

    def _is_held(self, call: Call) -> bool:
        """Whether somebody else holds what this call needs."""
        if not self._held_names and not self._held_lanes:
            return False
        claimed = self._claims.get(call.order_id or "")
        return (
            f"order:{call.order_id}" in self._held_names
            or f"key:{call.idempotency_key}" in self._held_names
            or call.vps_id in self._held_lanes
            or claimed in self._held_lanes
        )

    async def _load(self, connection: AsyncConnection) -> None:
        creates = [c for c in self.calls if c.action == "create"]
        if creates:
            wanted = {c.payload["user_id"] for c in creates}
            found = await connection.execute(select(tables.users.c.id).where(tables.users.c.id.in_(wanted)))
            self._users = {row.id for row in found}
            ids = await connection.execute(NEXT_IDS, {"count": len(creates)})
            self._new_ids = [row.id for row in ids]
        await self._load_keys(connection)
        orders = {c.order_id for c in self.calls if c.order_id is not None}
        if orders:
            claims = tables.claims
            found = await connection.execute(
                select(claims.c.order_id, claims.c.vps_id).where(claims.c.order_id.in_(orders))
            )
            self._claims = {row.order_id: row.vps_id for row in found}
        named = {c.vps_id for c in self.calls if c.vps_id is not None} | set(self._claims.values())
        await self._load_lanes(connection, named)
        # Under the locks, so that times of acceptance never run backwards along a lane.
        self._now = await connection.scalar(text("SELECT clock_timestamp()"))

    async def _load_keys(self, connection: AsyncConnection) -> None:
        wanted = {c.idempotency_key for c in self.calls if c.idempotency_key}
        if not wanted:
            return
        keys, operations = tables.idempotency_keys, tables.operations
        found = await connection.execute(
            select(keys, operations.c.vps_id)
            .join(operations, operations.c.id == keys.c.operation_id)
            .where(keys.c.scope == KEY_SCOPE, keys.c.key.in_(wanted))
        )
        self._keys = {row.key: dict(row._mapping) for row in found}

    async def _load_lanes(self, connection: AsyncConnection, named: Iterable[int]) -> None:
        ids = set(named)
        if not ids:
            return
        survivors = await connection.execute(SURVIVORS, {"ids": sorted(ids)})
        ids |= {row.vps_id for row in survivors}
        lanes, operations = tables.lanes, tables.operations
        wanted = select(lanes).where(lanes.c.vps_id.in_(ids)).order_by(lanes.c.vps_id)
        locked = await connection.execute(wanted.with_for_update(skip_locked=self._patience is Patience.NONE))
        self._lanes = {row.vps_id: dict(row._mapping) for row in locked}
        if self._patience is Patience.NONE:
            await self._note_held_lanes(connection, ids)
        rows = await connection.execute(select(tables.vps).where(tables.vps.c.id.in_(ids)))
        self._rows = {row.id: dict(row._mapping) for row in rows}
        queued = await connection.execute(
            select(operations)
            .where(operations.c.vps_id.in_(ids), operations.c.state == "queued")
            .order_by(operations.c.vps_id, operations.c.seq)
        )
        for row in queued:
            self._pending[row.vps_id].append(dict(row._mapping))
        dead = [lane["vps_id"] for lane in self._lanes.values() if lane["head"] == "deleted"]
        if dead:
            found = await connection.execute(LAST_DELETES, {"ids": dead})
            self._last_deletes = {row.vps_id: (row.id, row.state) for row in found}

    async def _note_held_lanes(self, connection: AsyncConnection, ids: set[int]) -> None:
        """Of ``ids`` those that exist and were not locked, and whatever was merged into them."""
        lanes = tables.lanes
        there = await connection.execute(
            select(lanes.c.vps_id, lanes.c.merged_into).where(lanes.c.vps_id.in_(ids)).order_by(lanes.c.vps_id)
        )
        survivor = {row.vps_id: row.merged_into for row in there}
        self._held_lanes = held = set(survivor) - set(self._lanes)
        while more := {id_ for id_, into in survivor.items() if into in held} - held:
            held |= more

    # --- deciding

    def _decide(self, index: int, call: Call) -> Outcome:
        if call.idempotency_key:
            known = self._keys.get(call.idempotency_key)
            if known is not None:
                return self._replay(call, known)
        outcome = self._create(call) if call.action == "create" else self._change(call)
        if isinstance(outcome, Refused):
            self._refusals.append(refused_row(call, outcome))
        elif isinstance(outcome, Accepted) and call.idempotency_key:
            self._new_keys.append((index, call))
            self._keys[call.idempotency_key] = {
                "body_hash": call.body_hash,
                "status_code": None,
                "in_batch": True,
            }
        return outcome

    def _replay(self, call: Call, known: Mapping[str, Any]) -> Outcome:
        if known["body_hash"] != call.body_hash:
            return Refused(422, "idempotency_key_reused", "Idempotency-Key was used with another body")
        if known.get("in_batch"):
            return Refused(409, "idempotency_key_in_flight", "A call with this Idempotency-Key is under way")
        return Replayed(known["operation_id"], known["vps_id"], known["status_code"], known["answer"])

    def _create(self, call: Call) -> Outcome:
        if call.payload["user_id"] not in self._users:
            self._nudge_users = True
            message = f"User {call.payload['user_id']} does not exist in the panel database"
            return Refused(422, "user_unknown", message, {"field": "vps.user_id"})
        if call.order_id is not None and (claimed := self._claims.get(call.order_id)) is not None:
            lane = self._follow(claimed)
            if lane is not None and lane["head"] == "live":
                return self._already_created(call, lane)
        vps_id = self._new_ids.pop(0)
        self._new_lanes.append({"vps_id": vps_id, "last_seq": 1, "head": "live", "order_id": call.order_id})
        row = new_row(vps_id, call.payload, self._now)
        self._journal(call, vps_id, 1)
        if call.order_id is not None:
            self._claims[call.order_id] = vps_id
            self._new_claims[call.order_id] = (vps_id, len(self._operations) - 1)
            self._lanes[vps_id] = {"vps_id": vps_id, "last_seq": 1, "head": "live", "merged_into": None}
            self._rows[vps_id] = row
        return Accepted(0, vps_id, "queued", public_record(row), f"VPS {vps_id} is being created", created=True)

    def _already_created(self, call: Call, lane: Mapping[str, Any]) -> Outcome:
        record = self._projected(lane["vps_id"])
        message = f"VPS {lane['vps_id']} already exists for order {call.order_id}; nothing was changed"
        # A second create of one order within one batch: its operation id is known only once written.
        state = "queued" if self._pending[lane["vps_id"]] else "applied"
        return Accepted(0, lane["vps_id"], state, public_record(record), message, created=False)

    def _change(self, call: Call) -> Outcome:
        vps_id = call.vps_id if call.vps_id is not None else self._claims.get(call.order_id or "")
        lane = self._follow(vps_id) if vps_id is not None else None
        named = f"VPS {call.vps_id}" if call.vps_id is not None else f"VPS of order {call.order_id}"
        if lane is None:
            return Refused(404, "vps_unknown", f"{named} does not exist in the panel")
        target = lane["vps_id"]
        if project(self._rows.get(target), self._pending[target]) is None:
            return Refused(404, "vps_unknown", f"{named} was never created: its create failed")
        if lane["head"] == "deleted":
            if call.action == "update":
                return Refused(404, "vps_deleted", f"{named} is deleted and cannot be updated")
            return self._already_deleted(target)
        lane["last_seq"] += 1
        self._touched[target] = lane
        self._journal(call, target, lane["last_seq"])
        if call.action == "delete":
            lane["head"] = "deleted"
            self._last_deletes[target] = (-len(self._operations), "queued")
        record = public_record(self._projected(target))
        message = f"VPS {target} is being {'deleted' if call.action == 'delete' else 'updated'}"
        return Accepted(0, target, "queued", record, message, created=True)

    def _already_deleted(self, target: int) -> Outcome:
        """A delete once more: what became of the one before, or that it is under way."""
        record = public_record(self._projected(target))
        done, state = self._last_deletes.get(target, (0, "applied"))
        message = f"VPS {target} is being deleted already" if state == "queued" else f"VPS {target} was already deleted"
        return Accepted(done, target, state, record, message, created=False)

    def _follow(self, vps_id: int) -> dict[str, Any] | None:
        lane = self._lanes.get(vps_id)
        while lane is not None and lane.get("merged_into") is not None:
            lane = self._lanes.get(lane["merged_into"])
        return lane

    def _projected(self, vps_id: int) -> Row:
        row = project(self._rows.get(vps_id), self._pending[vps_id])
        if row is None:
            raise RuntimeError(f"lane {vps_id} has neither a record nor a queued create")
        return row

    def _journal(self, call: Call, vps_id: int, seq: int) -> None:
        operation = {
            "kind": "sync",
            "action": call.action,
            "vps_id": vps_id,
            "seq": seq,
            "source": "sync",
            "payload": dict(call.payload),
            "state": "queued",
            "request_id": call.request_id,
            "api_key_label": call.api_key_label,
            "idempotency_key": call.idempotency_key,
            "accepted_at": self._now,
        }
        self._operations.append(operation)
        self._pending[vps_id].append(operation)

    # --- writing

    async def _write(self, connection: AsyncConnection) -> None:
        if self._new_lanes:
            await connection.execute(insert(tables.lanes), self._new_lanes)
        if self._touched:
            await connection.execute(
                update(tables.lanes)
                .where(tables.lanes.c.vps_id == bindparam("id"))
                .values(last_seq=bindparam("seq"), head=bindparam("new_head")),
                [
                    {"id": id_, "seq": lane["last_seq"], "new_head": lane["head"]}
                    for id_, lane in sorted(self._touched.items())
                ],
            )
        ids = self._journaled = await self._write_operations(connection)
        await self._finish_outcomes(connection, ids)
        await self._write_claims_and_keys(connection, ids)
        if self._refusals:
            await note_refusals(connection, self._refusals)
        if self._nudge_users:
            await connection.execute(
                pg_insert(tables.nudges).values(task="users.import", subject="").on_conflict_do_nothing()
            )
        if self._operations or self._nudge_users:
            await connection.execute(select(text(f"pg_notify('{JOURNAL_CHANNEL}', '')")))

    async def _write_operations(self, connection: AsyncConnection) -> list[int]:
        if not self._operations:
            return []
        statement = insert(tables.operations).returning(tables.operations.c.id, sort_by_parameter_order=True)
        return [row.id for row in await connection.execute(statement, self._operations)]

    async def _finish_outcomes(self, connection: AsyncConnection, ids: list[int]) -> None:
        fresh = iter(ids)
        for index, outcome in enumerate(self.outcomes):
            if not isinstance(outcome, Accepted) or outcome.operation_id > 0:
                continue
            if outcome.operation_id < 0:
                operation = ids[-outcome.operation_id - 1]
            else:
                operation = next(fresh) if outcome.created else await self._creating(connection, outcome.vps_id)
            self.outcomes[index] = replace(outcome, operation_id=operation)

    async def _creating(self, connection: AsyncConnection, vps_id: int) -> int:
        """The operation that made a record (or is about to)."""
        operations = tables.operations
        return (
            await connection.scalar(
                select(operations.c.id)
                .where(operations.c.vps_id == vps_id)
                .order_by(operations.c.action != literal("create"), operations.c.seq)
                .limit(1)
            )
            or 0
        )

    async def _write_claims_and_keys(self, connection: AsyncConnection, ids: list[int]) -> None:
        claims = [
            {"order_id": order, "vps_id": vps_id, "operation_id": ids[index]}
            for order, (vps_id, index) in self._new_claims.items()
        ]
        if claims:
            upsert = pg_insert(tables.claims)
            new = upsert.excluded
            await connection.execute(
                upsert.on_conflict_do_update(
                    index_elements=["order_id"],
                    set_={"vps_id": new.vps_id, "operation_id": new.operation_id, "claimed_at": self._now},
                ),
                claims,
            )
        if self._new_keys:
            await connection.execute(insert(tables.idempotency_keys), [self._key_row(*k) for k in self._new_keys])

    def _key_row(self, index: int, call: Call) -> dict[str, Any]:
        outcome = self.outcomes[index]
        if not isinstance(outcome, Accepted):
            raise TypeError("only an accepted call leaves its key")
        return {
            "scope": KEY_SCOPE,
            "key": call.idempotency_key,
            "body_hash": call.body_hash,
            "operation_id": outcome.operation_id,
            "status_code": 202 if outcome.created else 200,
            "answer": success_body(outcome.message, outcome.record, outcome.operation_id, outcome.state),
        }


LOCK_NAMES = text(
    "SELECT pg_advisory_xact_lock(hashtextextended(n, 0)) "
    "FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS t(n, o) ORDER BY o"
)
"""Locks on order ids ("order:7") and keys; held to the end of the transaction. Sorted by the caller."""

TRY_NAMES = text(
    "SELECT n AS name FROM unnest(CAST(:names AS text[])) AS t(n)"
    " WHERE pg_try_advisory_xact_lock(hashtextextended(n, 0))"
)
PATIENCE = text("SELECT set_config('lock_timeout', :ms, true)")

NEXT_IDS = text("SELECT nextval('vps_id_seq') AS id FROM generate_series(1, :count)")

SURVIVORS = text(
    "WITH RECURSIVE chain AS ("
    " SELECT merged_into AS vps_id FROM lanes WHERE vps_id = ANY(:ids) AND merged_into IS NOT NULL"
    " UNION SELECT l.merged_into FROM lanes l JOIN chain c ON l.vps_id = c.vps_id"
    " WHERE l.merged_into IS NOT NULL"
    ") SELECT vps_id FROM chain"
)

LAST_DELETES = text(
    "SELECT DISTINCT ON (vps_id) vps_id, id, state FROM operations WHERE vps_id = ANY(:ids) AND action = 'delete'"
    " ORDER BY vps_id, seq DESC"
)


def refused_row(call: Call, refused: Refused) -> dict[str, Any]:
    """The audit row of a refused call: ids and texts, never the payload."""
    user_id = call.payload.get("user_id")
    return {
        "status_code": refused.status_code,
        "code": refused.code,
        "message": refused.message,
        "action": call.action,
        "user_id": user_id if isinstance(user_id, int) else None,
        "order_id": call.order_id,
        "vps_id": call.vps_id,
        "request_id": call.request_id,
        "api_key_label": call.api_key_label,
        "address": call.address,
    }
