"""One batch of sync calls in one transaction: decide each call against the journal, write the accepted ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from panel.deadlines import DEFAULT, Deadlines
from panel.journal.calls import Accepted, Call, Outcome, Refused, Replayed
from panel.journal.journal_state import KEY_SCOPE, JournalState, LockTimeout
from panel.journal.refusals import note_refusals, refused_row
from panel.records.projection import new_row, project
from panel.records.public import public_record, success_body
from panel.schema import tables

JOURNAL_CHANNEL = "panel_journal"
"""A NOTIFY on this channel wakes the relay."""


class Batch:
    """The calls of one transaction and the outcome of each.

    ``outcomes`` has the order of the calls. A call that was left out (``LockTimeout.NONE``) has None.
    """

    def __init__(
        self, calls: list[Call], lock_timeout: LockTimeout = LockTimeout.FULL, deadlines: Deadlines = DEFAULT
    ) -> None:
        self.calls = calls
        self.outcomes: list[Outcome | None] = []
        self._known = JournalState(calls, lock_timeout, deadlines)
        self.xid: str | None = None
        self._new_vps_queues: list[dict[str, Any]] = []
        self._touched: dict[int, dict[str, Any]] = {}
        self._operations: list[dict[str, Any]] = []
        self._journaled: list[int] = []  # the ids of _operations, once written
        self._new_claims: dict[str, tuple[int, int]] = {}  # order id -> (vps id, index into _operations)
        self._new_keys: list[tuple[int, Call]] = []  # outcome index
        self._refusals: list[dict[str, Any]] = []
        self._needs_user_import = False

    @property
    def single_operation_id(self) -> int | None:
        """The operation of a batch of one call. Its caller gets this id if the commit is in doubt."""
        outcome = self.outcomes[0] if len(self.outcomes) == 1 else None
        return outcome.operation_id if isinstance(outcome, Accepted) else None

    async def decide_and_write(self, connection: AsyncConnection) -> None:
        """Do everything but the COMMIT."""
        await self._known.lock_names(connection)
        await self._known.load(connection)
        for index, call in enumerate(self.calls):
            self.outcomes.append(None if self._known.is_locked(call) else self._decide(index, call))
        await self._write(connection)
        self.xid = await connection.scalar(text("SELECT pg_current_xact_id_if_assigned()::text"))

    async def is_journaled(self, connection: AsyncConnection) -> bool:
        """Whether the journal holds every operation of this batch.

        It looks for id *and* time of acceptance: after a crash, PostgreSQL gives lost ids out again.
        """
        operations = tables.operations
        ids = self._journaled
        count = await connection.scalar(
            select(func.count())
            .select_from(operations)
            .where(operations.c.id.in_(ids), operations.c.accepted_at == self._known.now)
        )
        return count == len(ids)

    # --- deciding

    def _decide(self, index: int, call: Call) -> Outcome:
        if call.idempotency_key:
            known = self._known.keys.get(call.idempotency_key)
            if known is not None:
                return self._replay(call, known)
        outcome = self._create(call) if call.action == "create" else self._change(call)
        if isinstance(outcome, Refused):
            self._refusals.append(refused_row(call, outcome))
        elif isinstance(outcome, Accepted) and call.idempotency_key:
            self._new_keys.append((index, call))
            self._known.keys[call.idempotency_key] = {
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
        if call.payload["user_id"] not in self._known.users:
            self._needs_user_import = True
            message = f"User {call.payload['user_id']} does not exist in the panel database"
            return Refused(422, "user_unknown", message, {"field": "vps.user_id"})
        queue = self._known.of_order(call.order_id) if call.order_id is not None else None
        if queue is not None and queue["queue_state"] == "live":
            return self._already_created(call, queue)
        vps_id = self._known.new_ids.pop(0)
        self._new_vps_queues.append({"vps_id": vps_id, "last_seq": 1, "queue_state": "live", "order_id": call.order_id})
        row = new_row(vps_id, call.payload, self._known.now)
        self._journal(call, vps_id, 1)
        self._known.vps_queues[vps_id] = {"vps_id": vps_id, "last_seq": 1, "queue_state": "live", "merged_into": None}
        self._known.rows[vps_id] = row
        if call.order_id is not None:
            self._claim(call.order_id, vps_id)
        return Accepted(0, vps_id, "queued", public_record(row), f"VPS {vps_id} is being created", created=True)

    def _already_created(self, call: Call, queue: Mapping[str, Any]) -> Outcome:
        record = self._known.projected(queue["vps_id"])
        message = f"VPS {queue['vps_id']} already exists for order {call.order_id}; nothing was changed"
        # With two creates of one order in one batch, the operation's id is known only after the write.
        state = "queued" if self._known.pending[queue["vps_id"]] else "applied"
        return Accepted(0, queue["vps_id"], state, public_record(record), message, created=False)

    def _change(self, call: Call) -> Outcome:
        if call.vps_id is not None:
            queue, name = self._known.follow(call.vps_id), f"VPS {call.vps_id}"
        else:
            queue, name = self._known.of_order(call.order_id or ""), f"VPS of order {call.order_id}"
        if queue is None:
            return Refused(404, "vps_unknown", f"{name} does not exist in the panel")
        target = queue["vps_id"]
        if (record := project(self._known.rows.get(target), self._known.pending[target])) is None:
            return Refused(404, "vps_unknown", f"{name} was never created: its create failed")
        names_another = call.order_id is not None and record["order_id"] not in (None, call.order_id)
        if call.action == "delete" and names_another:
            why = f"{name} belongs to order {record['order_id']}, not to order {call.order_id}; nothing was changed"
            return Refused(404, "vps_unknown", f"{why}. To delete it, send its id alone")
        if queue["queue_state"] == "deleted":
            if call.action == "update":
                return Refused(404, "vps_deleted", f"{name} is deleted and cannot be updated")
            return self._already_deleted(target)
        queue["last_seq"] += 1
        self._touched[target] = queue
        self._journal(call, target, queue["last_seq"])
        if call.action == "delete":
            queue["queue_state"] = "deleted"
            self._known.last_deletes[target] = (-len(self._operations), "queued")
        elif call.order_id is not None and not names_another and not self._known.is_taken(call.order_id):
            self._claim(call.order_id, target)
        message = f"VPS {target} is being {'deleted' if call.action == 'delete' else 'updated'}"
        if names_another:
            message += f". It keeps order {record['order_id']}: only a run gives it another, as the order feed says"
        return Accepted(0, target, "queued", public_record(self._known.projected(target)), message, created=True)

    def _claim(self, order_id: str, vps_id: int) -> None:
        """From now on the order leads to the VPS that the latest operation is for."""
        self._known.claims[order_id] = vps_id
        self._new_claims[order_id] = (vps_id, len(self._operations) - 1)

    def _already_deleted(self, target: int) -> Outcome:
        """Answer a repeated delete with the operation and the state of the earlier one."""
        record = public_record(self._known.projected(target))
        earlier_id, state = self._known.last_deletes.get(target, (0, "applied"))
        message = f"VPS {target} is being deleted already" if state == "queued" else f"VPS {target} was already deleted"
        return Accepted(earlier_id, target, state, record, message, created=False)

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
            "accepted_at": self._known.now,
        }
        self._operations.append(operation)
        self._known.pending[vps_id].append(operation)

    # --- writing

    async def _write(self, connection: AsyncConnection) -> None:
        if self._new_vps_queues:
            await connection.execute(insert(tables.vps_queues), self._new_vps_queues)
        if self._touched:
            await connection.execute(
                update(tables.vps_queues)
                .where(tables.vps_queues.c.vps_id == bindparam("id"))
                .values(last_seq=bindparam("seq"), queue_state=bindparam("new_state")),
                [
                    {"id": id_, "seq": queue["last_seq"], "new_state": queue["queue_state"]}
                    for id_, queue in sorted(self._touched.items())
                ],
            )
        ids = self._journaled = await self._write_operations(connection)
        await self._finish_outcomes(connection, ids)
        await self._write_claims_and_keys(connection, ids)
        if self._refusals:
            await note_refusals(connection, self._refusals)
        if self._needs_user_import:
            await connection.execute(
                pg_insert(tables.task_requests).values(task="users.import", subject="").on_conflict_do_nothing()
            )
        if self._operations or self._needs_user_import:
            await connection.execute(select(text(f"pg_notify('{JOURNAL_CHANNEL}', '')")))

    async def _write_operations(self, connection: AsyncConnection) -> list[int]:
        if not self._operations:
            return []
        statement = insert(tables.operations).returning(tables.operations.c.id, sort_by_parameter_order=True)
        return [row.id for row in await connection.execute(statement, self._operations)]

    async def _finish_outcomes(self, connection: AsyncConnection, ids: list[int]) -> None:
        new_ids = iter(ids)
        for index, outcome in enumerate(self.outcomes):
            if not isinstance(outcome, Accepted) or outcome.operation_id > 0:
                continue
            if outcome.operation_id < 0:
                operation = ids[-outcome.operation_id - 1]
            else:
                operation = next(new_ids) if outcome.created else await self._create_of(connection, outcome.vps_id)
            self.outcomes[index] = replace(outcome, operation_id=operation)

    async def _create_of(self, connection: AsyncConnection, vps_id: int) -> int:
        """The operation that created a record, or is about to create it."""
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
        order_claims = [
            {"order_id": order, "vps_id": vps_id, "operation_id": ids[index]}
            for order, (vps_id, index) in self._new_claims.items()
        ]
        if order_claims:
            upsert = pg_insert(tables.order_claims)
            new = upsert.excluded
            await connection.execute(
                upsert.on_conflict_do_update(
                    index_elements=["order_id"],
                    set_={"vps_id": new.vps_id, "operation_id": new.operation_id, "claimed_at": self._known.now},
                ),
                order_claims,
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
