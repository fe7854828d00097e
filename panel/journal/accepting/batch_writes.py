"""What a batch of sync calls writes, and the one statement that writes it.

Its rows go to PostgreSQL as JSON, one text for each table: a batch of any size has the same few values.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from panel.sessions import DirectStatements

Rows = list[dict[str, Any]]


@dataclass(slots=True)
class BatchWrites:
    """The rows of one transaction. Their keys are the names of the tables' columns."""

    new_vps_queues: Rows = field(default_factory=list)
    changed_vps_queues: Rows = field(default_factory=list)
    operations: Rows = field(default_factory=list)
    order_claims: Rows = field(default_factory=list)
    idempotency_keys: Rows = field(default_factory=list)
    imports_users: bool = False

    def statement(self) -> str | None:
        """The one statement that writes all of it and gives the transaction's number; None if there is nothing."""
        parts = [f"{name} AS ({PARTS[name]})" for name in self._names()]
        if self.imports_users:
            parts.append(f"imports AS ({IMPORT_USERS})")
        if not parts:
            return None
        wakes = ", pg_notify(%(channel)s, '')" if self.operations or self.imports_users else ""
        return f"WITH {', '.join(parts)} SELECT pg_current_xact_id()::text AS xid{wakes}"

    def values(self, now: datetime, channel: str) -> dict[str, Any]:
        """The values of the statement. ``now``: when the calls were accepted. ``channel``: wakes the relay."""
        return {name: json.dumps(getattr(self, name)) for name in self._names()} | {"now": now, "channel": channel}

    def _names(self) -> Sequence[str]:
        return [name for name in PARTS if getattr(self, name)]


async def write_batch(statements: DirectStatements, writes: BatchWrites, now: datetime, channel: str) -> str | None:
    """Write a batch. Returns the transaction's number, or None if there was nothing to write."""
    statement = writes.statement()
    if statement is None:
        return None
    (row,) = await statements.rows(statement, writes.values(now, channel), name="INSERT operations")
    xid: str = row["xid"]
    return xid


PARTS = {
    "new_vps_queues": (
        "INSERT INTO vps_queues (vps_id, last_seq, queue_state, order_id)"
        " SELECT * FROM jsonb_to_recordset(CAST(%(new_vps_queues)s AS jsonb))"
        " AS q(vps_id bigint, last_seq bigint, queue_state text, order_id text)"
    ),
    "changed_vps_queues": (
        "UPDATE vps_queues q SET last_seq = n.last_seq, queue_state = n.queue_state"
        " FROM jsonb_to_recordset(CAST(%(changed_vps_queues)s AS jsonb))"
        " AS n(vps_id bigint, last_seq bigint, queue_state text) WHERE q.vps_id = n.vps_id"
    ),
    "operations": (
        "INSERT INTO operations (id, kind, action, vps_id, seq, source, payload, state, request_id, traceparent,"
        " api_key_label, idempotency_key, accepted_at) OVERRIDING SYSTEM VALUE"
        " SELECT id, 'sync', action, vps_id, seq, 'sync', payload, 'queued', request_id, traceparent,"
        " api_key_label, idempotency_key, %(now)s FROM jsonb_to_recordset(CAST(%(operations)s AS jsonb))"
        " AS o(id bigint, action text, vps_id bigint, seq bigint, payload jsonb, request_id text, traceparent text,"
        " api_key_label text, idempotency_key text)"
    ),
    "order_claims": (
        "INSERT INTO order_claims AS c (order_id, vps_id, operation_id)"
        " SELECT * FROM jsonb_to_recordset(CAST(%(order_claims)s AS jsonb))"
        " AS n(order_id text, vps_id bigint, operation_id bigint)"
        " ON CONFLICT (order_id) DO UPDATE SET vps_id = excluded.vps_id, operation_id = excluded.operation_id,"
        " claimed_at = %(now)s"
    ),
    "idempotency_keys": (
        "INSERT INTO idempotency_keys (scope, key, body_hash, operation_id, status_code, answer)"
        " SELECT * FROM jsonb_to_recordset(CAST(%(idempotency_keys)s AS jsonb))"
        " AS k(scope text, key text, body_hash text, operation_id bigint, status_code integer, answer jsonb)"
    ),
}
"""By table. Foreign keys are checked when all parts are done, so their order does not matter. No part may change a row
of another."""

IMPORT_USERS = "INSERT INTO task_requests (task, subject) VALUES ('users.import', '') ON CONFLICT DO NOTHING"
