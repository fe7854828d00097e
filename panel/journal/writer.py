"""Applies journaled sync calls to records: in the order in which they were journaled, one VPS's queue at a time.

A task names one operation. Redis may lose, double or reorder messages, so only the order of the VPS's queue counts:
the operations before that one are applied first, and an operation that is applied already is left alone.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, case, select, text, update
from sqlalchemy.exc import DBAPIError

from domain.identity_doubts import Doubt
from panel.journal import rows
from panel.journal.attempts import NO_FAILURE, NOT_ENDED, NOTE_ATTEMPT, NOTE_FAILURE, PENDING_ATTEMPT_REFUNDS, TAKE_BACK
from panel.journal.call_sets import effects
from panel.journal.order_claims import (
    ForeignDeleteError,
    NotYetError,
    OrderTakenError,
    check_delete,
    may_claim,
    wait_for_older_order,
)
from panel.monitoring.instruments import calls_finished
from panel.observations.identity_doubts import doubt_guests
from panel.records.projection import Row, in_conflict
from panel.schema import tables
from panel.sessions import is_away

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 5
"""An operation that fails this often for a reason of its own is dead: operators see it, and it blocks no other call."""

MAX_PER_TRANSACTION = 100
"""A queue with more operations than this is applied by several tasks, so that no transaction holds its locks long."""

NOT_MIGRATED = frozenset({"42501", "42703", "42P01"})
"""No right, column or table: the tables are not migrated yet. Every call fails then, so no failure is counted."""


_BEFORE = tables.operations.alias()
TRIED = (
    select(_BEFORE.c.id)
    .where(
        _BEFORE.c.vps_id == tables.operations.c.vps_id,
        _BEFORE.c.seq <= tables.operations.c.seq,
        _BEFORE.c.state == "queued",
        (_BEFORE.c.publishes > 1) | (_BEFORE.c.attempts > 0) | (_BEFORE.c.error == NOT_ENDED),
    )
    .exists()
)
"""Whether an operation, or one before it in its queue, was tried before or may have been."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The state of the operation that the task named. ``text`` goes to the task list."""

    operation_id: int
    state: str
    text: str


def apply_operation(engine: Engine, operation_id: int, *, again: bool = False) -> Applied:
    """Apply the queue of ``operation_id`` up to and including it.

    ``again``: it was tried before, and how that ended is unknown. Then, and if it or a call before it in the queue
    failed or was published more than once, each attempt is noted before it is made. So a call that kills its process
    is dead in the end, too.
    Raises SQLAlchemy's DBAPIError when the database is away or not migrated (retry later).
    """
    operations = tables.operations
    PENDING_ATTEMPT_REFUNDS.pay(engine)
    with engine.begin() as connection:
        named = connection.execute(
            select(
                operations.c.id, operations.c.vps_id, operations.c.seq, operations.c.state, TRIED.label("tried")
            ).where(operations.c.id == operation_id)
        ).one_or_none()
        if named is None:
            return Applied(operation_id, "unknown", "unknown operation")
        if named.state != "queued":
            return Applied(operation_id, named.state, f"already {named.state}")
        again = again or named.tried
        if not again:
            finished = _apply_vps_queue(connection, named.vps_id, named.seq)
            outcome = _outcome(connection, operation_id)
    if not again:
        calls_finished(finished)
        return outcome
    _apply_noted(engine, named.vps_id, named.seq)
    with engine.begin() as connection:
        return _outcome(connection, operation_id)


def _outcome(connection: Connection, operation_id: int) -> Applied:
    operations = tables.operations
    now = connection.execute(
        select(operations.c.state, operations.c.result, operations.c.error).where(operations.c.id == operation_id)
    ).one()
    detail = now.result if now.state == "applied" else now.error or "waiting"
    return Applied(operation_id, now.state, f"{now.state} {detail}")


def _apply_noted(engine: Engine, vps_id: int, up_to: int) -> None:
    """Apply a queue call by call. Each attempt is noted in a separate transaction before it is made.

    The transaction that ends the attempt, well or badly, takes the note back. If the database fails in between, the
    worker does it as soon as it can. So the notes that remain are attempts that ended with their process.
    """
    for _ in range(MAX_PER_TRANSACTION):
        with engine.begin() as connection:
            head = connection.execute(NOTE_ATTEMPT, {"vps_id": vps_id, "up_to": up_to}).one_or_none()
        if head is None:
            return
        try:
            with engine.begin() as connection:
                connection.execute(TAKE_BACK, {"id": head.id, "notes": 1})
                if head.attempts > MAX_ATTEMPTS:
                    finished = _mark_crashed(connection, head)
                else:
                    finished = _apply_vps_queue(connection, vps_id, head.seq)
            calls_finished(finished)
        except DBAPIError as error:
            if is_database_fault(error):
                PENDING_ATTEMPT_REFUNDS.add(head.id)
                with contextlib.suppress(DBAPIError):
                    PENDING_ATTEMPT_REFUNDS.pay(engine)
            else:  # the call's own fault, at COMMIT or in a read before the savepoint: the note counts as a failure
                with engine.begin() as connection:
                    values = {"id": head.id, "why": _error_code(error), "wait": 2.0**head.attempts}
                    connection.execute(NOTE_FAILURE, values)
            raise
        state = select(tables.operations.c.state).where(tables.operations.c.id == head.id)
        with engine.connect() as connection:
            if connection.scalar(state) == "queued":
                return


def _mark_crashed(connection: Connection, head: Any) -> list[str]:  # noqa: ANN401
    """Give up a call that no attempt ended: each process that tried it was killed, or hung until it was killed.
    Returns the states in which calls ended by that."""
    rows.lock_vps_queues(connection, [head.vps_id])
    operations = tables.operations
    if connection.scalar(select(operations.c.state).where(operations.c.id == head.id)) != "queued":
        return []
    attempts = head.attempts - 1
    log.warning("operation_killed_its_process", operation_id=head.id, vps_id=head.vps_id, attempts=attempts)
    failed_before = head.error if head.error not in NO_FAILURE else None
    _mark_dead(connection, head, attempts, failed_before or f"none of {attempts} attempts came to an end")
    return ["dead"]


def _apply_vps_queue(connection: Connection, vps_id: int, up_to: int) -> list[str]:
    """Apply what is queued of a VPS. Returns the state of each call that ended."""
    finished: list[str] = []
    operations = tables.operations
    queued = (
        select(operations)
        .where(operations.c.vps_id == vps_id, operations.c.state == "queued", operations.c.seq <= up_to)
        .order_by(operations.c.seq)
        .limit(MAX_PER_TRANSACTION)
    )
    order_ids = [row.payload.get("order_id") for row in connection.execute(queued)]
    rows.lock_orders(connection, order_ids)
    rows.lock_vps_queues(connection, [vps_id])
    row = rows.load_row(connection, vps_id)
    # Read again under the lock: another worker may have applied some of them meanwhile.
    for operation in connection.execute(queued).all():
        try:
            with connection.begin_nested():
                row, state = _apply_one(connection, row, operation)
            finished.append(state)
        except NotYetError as waiting:
            _postpone(connection, operation.id, str(waiting))
            break
        except OrderTakenError as taken:
            _mark_dead(connection, operation, operation.attempts, str(taken))
            finished.append("dead")
            # The order belongs to the older record again: the main site may send the delete of that record once more.
            rows.claim_order(connection, taken.order_id, taken.vps_id, operation.id)
        except ForeignDeleteError as foreign:
            _mark_dead(connection, operation, operation.attempts, str(foreign))
            finished.append("dead")
        except DBAPIError as error:
            if is_database_fault(error):
                raise
            if not _count_failure(connection, operation, error):
                break
            finished.append("dead")
    return finished


def _apply_one(connection: Connection, row: Row | None, operation: Any) -> tuple[Row | None, str]:  # noqa: ANN401
    """Returns the record as it is now, and the state in which the call ended."""
    before = dict(row) if row else None
    match operation.action:
        case "create" if row is None:
            after = _create(connection, operation)
        case "update" if row is not None and row["deleted_at"] is None:
            after = _update(connection, row, operation)
        case "delete" if row is not None and row["deleted_at"] is None:
            after = _delete(connection, row, operation)
        case _:
            return row, _supersede(connection, row, operation)
    old, new = rows.difference(before, after)
    rows.finish(
        connection,
        operation.id,
        "applied",
        result=rows.summary(before, after),
        before=old,
        after=new,
        error=None,
    )
    queue_state = {"queue_state": "deleted"} if operation.action == "delete" else {}
    rows.advance_vps_queue(connection, operation.vps_id, operation.seq, **queue_state)
    return after, "applied"


def _create(connection: Connection, operation: Any) -> Row:  # noqa: ANN401
    row = effects.created(operation)
    wait_for_older_order(connection, row)
    doubt_guests(connection, effects.newly_named_guests(operation.payload, None), Doubt.CALL)
    row = _without_conflicting_link(connection, row, None)
    rows.store_new(connection, row)
    return row


def _update(connection: Connection, row: Row, operation: Any) -> Row:  # noqa: ANN401
    payload = dict(operation.payload)
    if (why_not := _why_not_linked(connection, row, payload.get("order_id"))) is not None:
        rows.raise_finding(
            connection, "link-conflict", f"vps:{row['id']}", why_not, vps_id=row["id"], order_id=payload["order_id"]
        )
        del payload["order_id"]
    if payload.get("user_id") not in (None, row["user_id"]):
        rows.raise_finding(
            connection,
            "ownership",
            f"vps:{row['id']}",
            "an update call names another owner; the owner stays, because only a run changes it, by the order",
            severity="alarm",
            vps_id=row["id"],
        )
    after = effects.updated(row, operation, payload)
    doubt_guests(connection, effects.newly_named_guests(payload, row), Doubt.CALL)
    after = _without_conflicting_link(connection, after, row)
    if after["order_id"] != row["order_id"]:
        rows.claim_order(connection, after["order_id"], row["id"], operation.id)
    return rows.store_changed(connection, row, after)


def _why_not_linked(connection: Connection, row: Row, order_id: str | None) -> str | None:
    """Why the order that an update names is not linked with the record; None if it may be, or is linked already."""
    if order_id is None or order_id == row["order_id"]:
        return None
    if row["order_id"] is not None:
        return (
            f"an update names order {order_id}, but VPS {row['id']} belongs to order {row['order_id']}; it keeps that"
            f" order. If order {order_id} has followed order {row['order_id']}, let the order feed name this VPS for"
            f" order {order_id}: a run links it then"
        )
    if not may_claim(connection, order_id, row["id"]):
        return f"an update names order {order_id}, which belongs to another VPS; the order was not linked"
    return None


def _delete(connection: Connection, row: Row, operation: Any) -> Row:  # noqa: ANN401
    check_delete(row, operation.payload.get("order_id"))
    return rows.store_changed(connection, row, effects.deleted(row, operation))


def _supersede(connection: Connection, row: Row | None, operation: Any) -> str:  # noqa: ANN401
    state, why = effects.superseded(row)
    rows.finish(connection, operation.id, state, result=None, reason=why)
    rows.advance_vps_queue(connection, operation.vps_id, operation.seq)
    return state


def _without_conflicting_link(connection: Connection, row: Row, before: Row | None) -> Row:
    """The record without a pushed guest that belongs to another live record. A run decides whose guest it is."""
    if not effects.claims_guest(row):
        return row
    vps = tables.vps
    other = connection.scalar(
        select(vps.c.id).where(
            vps.c.cluster == row["cluster"],
            vps.c.vmid == row["vmid"],
            vps.c.deleted_at.is_(None),
            vps.c.id != row["id"],
        )
    )
    if other is None:
        return row
    conflict = f"a call named guest {row['cluster']}/{row['vmid']} for VPS {row['id']}, but it belongs to VPS {other}"
    after = in_conflict(row, before)
    kept = f"VPS {row['id']} keeps guest {after['cluster']}/{after['vmid']}, which was read to be its own"
    unlinked = f"VPS {row['id']} has no guest until the next run decides"
    rows.raise_finding(
        connection,
        "link-conflict",
        f"vps:{row['id']}",
        f"{conflict}; {kept if after['vmid'] is not None else unlinked}",
        vps_id=row["id"],
        cluster=row["cluster"],
        vmid=row["vmid"],
    )
    return after


def _postpone(connection: Connection, operation_id: int, why: str) -> None:
    operations = tables.operations
    connection.execute(
        update(operations)
        .where(operations.c.id == operation_id)
        .values(error=why, publish_at=text("clock_timestamp() + interval '1 second'"))
    )


def _count_failure(connection: Connection, operation: Any, error: Exception) -> bool:  # noqa: ANN401
    """Count a failure of the operation itself. Returns True when it is dead and the queue may go on."""
    code = _error_code(error)
    attempts = operation.attempts + 1
    log.warning("operation_failed", operation_id=operation.id, vps_id=operation.vps_id, attempts=attempts, error=code)
    operations = tables.operations
    if attempts < MAX_ATTEMPTS:
        connection.execute(
            update(operations)
            .where(operations.c.id == operation.id)
            .values(
                attempts=attempts,
                error=code,
                publish_at=text("clock_timestamp() + make_interval(secs => :wait)").bindparams(wait=2.0**attempts),
            )
        )
        return False
    _mark_dead(connection, operation, attempts, code)
    return True


def _error_code(error: Exception) -> str:
    """Class, SQLSTATE and constraint; never the message, which quotes the row's values."""
    cause = getattr(error, "orig", None)
    constraint = getattr(getattr(cause, "diag", None), "constraint_name", None)
    return f"{type(cause).__name__} {getattr(cause, 'sqlstate', '')} {constraint or ''}".strip()


def is_database_fault(error: DBAPIError) -> bool:
    """Whether the database is away or not migrated, so that the call itself may be good."""
    return is_away(error) or getattr(error.orig, "sqlstate", None) in NOT_MIGRATED


def _mark_dead(connection: Connection, operation: Any, attempts: int, why: str) -> None:  # noqa: ANN401
    rows.finish(connection, operation.id, "dead", attempts=attempts, error=why)
    vps_queues = tables.vps_queues
    queue_state: dict[str, Any] = {}
    if operation.action == "create":
        # Without its create there is no VPS: the queue takes no more calls, and the order may be created again.
        queue_state = {"queue_state": "deleted"}
    elif operation.action == "delete" and _is_live(connection, operation.vps_id):
        # The VPS lives on. So it must take calls again, and a repeated delete must not get "already deleted".
        queue_state = {
            "queue_state": case((vps_queues.c.last_seq == operation.seq, "live"), else_=vps_queues.c.queue_state)
        }
    rows.advance_vps_queue(connection, operation.vps_id, operation.seq, **queue_state)


def _is_live(connection: Connection, vps_id: int) -> bool:
    row = rows.load_row(connection, vps_id)
    return row is not None and row["deleted_at"] is None
