"""One batch of sync calls in one transaction: decide each call against the journal, write the accepted ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from panel.deadlines import DEFAULT, Deadlines
from panel.journal.accepting.batch_reads import creates_of
from panel.journal.accepting.batch_writes import BatchWrites, write_batch
from panel.journal.calls import Accepted, Call, Outcome, Refused, Replayed
from panel.journal.journal_state import KEY_SCOPE, JournalState, LockTimeout
from panel.journal.refusals import note_refusals, refused_row
from panel.records.projection import new_row, project
from panel.records.public import public_record, success_body
from panel.schema import tables
from panel.sessions import DirectStatements

JOURNAL_CHANNEL = "panel_journal"
"""A NOTIFY on this channel wakes the relay."""

NOT_READ = 0
"""In place of an operation's id: it is not known, or was pruned."""


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
        self._new_vps_queues: dict[int, str | None] = {}  # VPS id -> the order that it is made for
        self._changed: set[int] = set()  # VPS ids of queues that were there before
        self._operations: list[dict[str, Any]] = []
        self._new_claims: dict[str, dict[str, Any]] = {}  # by order id
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
        statements = await DirectStatements.begin(connection)
        await self._known.lock_names(statements)
        await self._known.load(statements)
        for index, call in enumerate(self.calls):
            self.outcomes.append(None if self._known.is_locked(call) else self._decide(index, call))
        await self._name_earlier_creates(statements)
        if self._refusals:
            await note_refusals(connection, self._refusals)
        self.xid = await write_batch(statements, self._writes(), self._known.now, JOURNAL_CHANNEL)

    async def is_journaled(self, connection: AsyncConnection) -> bool:
        """Whether the journal holds every operation of this batch.

        It looks for id *and* time of acceptance: after a crash, PostgreSQL gives lost ids out again.
        """
        operations = tables.operations
        ids = [operation["id"] for operation in self._operations]
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
                return self._audited(call, self._replay(call, known))
        outcome = self._audited(call, self._create(call) if call.action == "create" else self._change(call))
        if isinstance(outcome, Accepted) and call.idempotency_key:
            self._new_keys.append((index, call))
            self._known.keys[call.idempotency_key] = {
                "body_hash": call.body_hash,
                "status_code": None,
                "in_batch": True,
            }
        return outcome

    def _audited(self, call: Call, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Refused):
            self._refusals.append(refused_row(call, outcome))
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
        self._new_vps_queues[vps_id] = call.order_id
        row = new_row(vps_id, call.payload, self._known.now)
        operation_id = self._journal(call, vps_id, 1)
        self._known.vps_queues[vps_id] = {"vps_id": vps_id, "last_seq": 1, "queue_state": "live", "merged_into": None}
        self._known.rows[vps_id] = row
        if call.order_id is not None:
            self._claim(call.order_id, vps_id, operation_id)
        message = f"VPS {vps_id} is being created"
        return Accepted(operation_id, vps_id, "queued", public_record(row), message, created=True)

    def _already_created(self, call: Call, queue: Mapping[str, Any]) -> Outcome:
        record = self._known.projected(queue["vps_id"])
        message = f"VPS {queue['vps_id']} already exists for order {call.order_id}; nothing was changed"
        pending = self._known.pending[queue["vps_id"]]
        earlier_id = next((one["id"] for one in pending if one["action"] == "create"), NOT_READ)
        state = "queued" if earlier_id else "applied"
        return Accepted(earlier_id, queue["vps_id"], state, public_record(record), message, created=False)

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
        holder = self._holder_besides(target, record, call.order_id)
        queue["last_seq"] += 1
        if target not in self._new_vps_queues:
            self._changed.add(target)
        operation_id = self._journal(call, target, queue["last_seq"])
        if call.action == "delete":
            queue["queue_state"] = "deleted"
            self._known.last_deletes[target] = (operation_id, "queued")
        elif call.order_id is not None and not names_another and not self._known.is_taken(call.order_id):
            self._claim(call.order_id, target, operation_id)
        message = f"VPS {target} is being {'deleted' if call.action == 'delete' else 'updated'}"
        if names_another:
            message += f". It keeps order {record['order_id']}: only a run gives it another, as the order feed says"
        after = self._known.projected(target)
        if holder is not None:
            message += f". Order {call.order_id} stays with VPS {holder}, which is not deleted yet"
            after = after | {"order_id": None}
        return Accepted(operation_id, target, "queued", public_record(after), message, created=True)

    def _holder_besides(self, target: int, record: Mapping[str, Any], order_id: str | None) -> int | None:
        """The other VPS that keeps the order, though a call brings it to a record without one."""
        if order_id is None or record["order_id"] is not None or not self._known.is_taken(order_id):
            return None
        queue = self._known.of_order(order_id)
        return queue["vps_id"] if queue is not None and queue["vps_id"] != target else None

    def _claim(self, order_id: str, vps_id: int, operation_id: int) -> None:
        """From now on the order leads to the VPS that the operation is for."""
        self._known.claims[order_id] = vps_id
        self._new_claims[order_id] = {"order_id": order_id, "vps_id": vps_id, "operation_id": operation_id}

    def _already_deleted(self, target: int) -> Outcome:
        """Answer a repeated delete with the operation and the state of the earlier one."""
        record = public_record(self._known.projected(target))
        earlier_id, state = self._known.last_deletes.get(target, (NOT_READ, "applied"))
        message = f"VPS {target} is being deleted already" if state == "queued" else f"VPS {target} was already deleted"
        return Accepted(earlier_id, target, state, record, message, created=False)

    def _journal(self, call: Call, vps_id: int, seq: int) -> int:
        """Returns the id of the operation that the call becomes."""
        operation_id = self._known.operation_ids.pop(0)
        operation = {
            "id": operation_id,
            "action": call.action,
            "vps_id": vps_id,
            "seq": seq,
            "payload": dict(call.payload),
            "request_id": call.request_id,
            "traceparent": call.traceparent,
            "api_key_label": call.api_key_label,
            "idempotency_key": call.idempotency_key,
        }
        self._operations.append(operation)
        self._known.pending[vps_id].append(operation | {"accepted_at": self._known.now})
        return operation_id

    # --- writing

    async def _name_earlier_creates(self, statements: DirectStatements) -> None:
        """Give the outcomes that have no operation yet the one that created the record."""
        unnamed = {
            outcome.vps_id for outcome in self.outcomes if isinstance(outcome, Accepted) and not outcome.operation_id
        }
        if not unnamed:
            return
        creates = await creates_of(statements, unnamed)
        for index, outcome in enumerate(self.outcomes):
            if isinstance(outcome, Accepted) and not outcome.operation_id:
                self.outcomes[index] = replace(outcome, operation_id=creates.get(outcome.vps_id, NOT_READ))

    def _writes(self) -> BatchWrites:
        """What the decisions come to."""
        queues = self._known.vps_queues
        return BatchWrites(
            new_vps_queues=[
                _queue_row(queues[vps_id]) | {"order_id": order_id} for vps_id, order_id in self._new_vps_queues.items()
            ],
            changed_vps_queues=[_queue_row(queues[vps_id]) for vps_id in sorted(self._changed)],
            operations=self._operations,
            order_claims=list(self._new_claims.values()),
            idempotency_keys=[self._key_row(*key) for key in self._new_keys],
            imports_users=self._needs_user_import,
        )

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


def _queue_row(queue: Mapping[str, Any]) -> dict[str, Any]:
    return {name: queue[name] for name in ("vps_id", "last_seq", "queue_state")}
