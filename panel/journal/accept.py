"""Takes sync calls into the journal. A call is committed before its caller gets an answer.

Group commit: calls that arrive while a commit is under way share the next one, so that under load many calls
pay for one fsync. Each call of a batch is decided on its own: a refused call does not affect the others.

Calls that arrive in one request (``accept_in_order``) are committed in transactions of their own, one after the other,
so that none overtakes another and single calls need not wait for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.deadlines import DEFAULT, Deadlines
from panel.journal.accept_batch import Batch
from panel.journal.calls import (
    Accepted,
    Call,
    DatabaseAwayError,
    NotTriedError,
    Outcome,
    OutcomeUnknownError,
    OverloadedError,
    Refused,
    Replayed,
)
from panel.journal.journal_state import KEY_SCOPE, LockTimeout
from panel.journal.refusals import note_refusals, refused_row
from panel.schema import tables
from panel.sessions import is_away
from tracing.spans import span
from tracing.traceparent import common_trace

log = structlog.get_logger(__name__)

BATCH_LIMIT = 128  # calls per commit; a longer batch would make its first call wait
RETRIABLE = {"40001", "40P01"}  # serialization, deadlock
LOCKED = "55P03"
REFUSALS_LIMIT = 1000  # refusals that may wait to be audited; the audit stores no more than as many an hour
SEPARATE_COMMITS = 2  # at the same time, each with its own connection, of single calls that wait for a lock
IN_ORDER_COMMITS = 2  # as many of batches, so that neither kind keeps the other waiting
PIECES = 8  # into so many a part of a batch is cut if it fails because of one of its calls


@dataclass(slots=True)
class _Waiting:
    call: Call
    future: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    begun: bool = False  # True while the transaction that it is part of may commit

    def give_up(self) -> None:
        """Its time is over."""
        late = "the calls before this one are not committed yet"
        self.resolve(OutcomeUnknownError(None) if self.begun else DatabaseAwayError(late))

    def resolve(self, outcome: Outcome | BaseException) -> None:
        if self.future.done():  # the caller went away; a committed call stays committed
            return
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


@dataclass(slots=True)
class _Series:
    """The calls of one request. ``outcomes`` are those of the first calls, as far as they are decided."""

    calls: Sequence[Call]
    begin_until: float  # on the event loop's clock
    outcomes: list[Outcome | Exception] = field(default_factory=list)
    begun: int = 0  # calls that are decided, or whose transaction may commit
    ended: bool = False  # True: no further transaction may begin

    def may_begin(self) -> bool:
        """Whether there is time for one more transaction. The first one always begins, unless the caller gave up."""
        in_time = not self.outcomes or asyncio.get_running_loop().time() < self.begin_until
        return not self.ended and in_time

    def all_outcomes(self) -> list[Outcome | Exception]:
        """One for each call, whether it was reached or not."""
        unknown: list[Outcome | Exception] = [OutcomeUnknownError(None)] * (self.begun - len(self.outcomes))
        known = [*self.outcomes, *unknown]
        last = known[-1] if known else DatabaseAwayError("the calls before this one are not committed yet")
        left = last if isinstance(last, DatabaseAwayError) else NotTriedError()
        return known + [left] * (len(self.calls) - len(known))


class _LockedError(Exception):
    """Another transaction holds a lock that a call of the batch needs."""


class Acceptor:
    """One per API process. ``accept`` may be called from any number of request handlers."""

    def __init__(self, engine: AsyncEngine, *, max_waiting: int = 2000, deadlines: Deadlines = DEFAULT) -> None:
        self._engine = engine
        self._deadlines = deadlines
        self._max_waiting = max_waiting
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._separate: set[asyncio.Task[None]] = set()
        self._separate_slots = asyncio.Semaphore(SEPARATE_COMMITS)
        self._in_order_slots = asyncio.Semaphore(IN_ORDER_COMMITS)
        self._in_order = 0  # calls of batches that are under way
        self._refusals: deque[dict[str, Any]] = deque()
        self._auditing = False
        self._unaudited = 0

    async def start(self) -> None:
        """Start the committing task."""
        self._task = asyncio.create_task(self._commit_forever(), name="acceptor")

    async def stop(self) -> None:
        """Commit and answer the waiting calls, then end."""
        if self._task is not None:
            await self._queue.put(None)
            await self._task
            self._task = None
        while self._separate:
            await asyncio.wait(self._separate)

    async def accept(self, call: Call) -> Outcome:
        """Journal one call. Raises DatabaseAwayError or OverloadedError (nothing accepted), or OutcomeUnknownError.

        It waits for ``Deadlines.queue_s`` at most. A call that is still in the queue then will never be accepted
        (DatabaseAwayError). A call whose transaction has begun may still be committed (OutcomeUnknownError).
        """
        if self._queue.qsize() >= self._max_waiting:
            raise OverloadedError("too many calls are waiting for the database")
        waiting = _Waiting(call)
        await self._queue.put(waiting)
        timer = asyncio.get_running_loop().call_later(self._deadlines.queue_s, waiting.give_up)
        try:
            return await waiting.future
        finally:
            timer.cancel()

    async def accept_in_order(self, calls: Sequence[Call], spent_s: float = 0.0) -> list[Outcome | Exception]:
        """Journal the calls of one request, each after those before it. Returns an outcome for each call.

        Where the database does not take a call, its outcome is DatabaseAwayError or OutcomeUnknownError, and so is that
        of all that shared its transaction. No later call is tried then, because it would overtake this one: its outcome
        is DatabaseAwayError or NotTriedError. Any other exception is a bug that one call met; the others go on.

        Raises DatabaseAwayError or OverloadedError if nothing was accepted because of it. ``spent_s``: how many seconds
        of ``Deadlines.queue_s`` have passed already.
        """
        if self._in_order + len(calls) > self._max_waiting:
            raise OverloadedError("too many batches are under way")
        series = _Series(calls, asyncio.get_running_loop().time() + self._deadlines.begin_s - spent_s)
        self._in_order += len(calls)
        task = asyncio.create_task(self._commit_in_order(series), name="acceptor-in-order")
        self._separate.add(task)
        task.add_done_callback(self._separate.discard)
        try:  # the task is not cancelled: a transaction that has begun ends by itself
            await asyncio.wait({task}, timeout=max(0.0, self._deadlines.queue_s - spent_s))
        finally:
            series.ended = True
        outcomes = series.all_outcomes()
        if not any(isinstance(outcome, Accepted | Replayed | OutcomeUnknownError) for outcome in outcomes):
            for outcome in outcomes:
                if isinstance(outcome, DatabaseAwayError):
                    raise outcome
        return outcomes

    async def audit(self, call: Call, refused: Refused) -> None:
        """Store a refused-calls row for a call that the HTTP edge refused. A failure is only logged: the call changed
        nothing, so best effort is enough.

        It uses one connection at most, however many calls are refused: the request that writes also writes the rows
        that others add meanwhile. Rows beyond REFUSALS_LIMIT are only counted.
        """
        if len(self._refusals) >= REFUSALS_LIMIT:
            self._unaudited += 1
            return
        self._refusals.append(refused_row(call, refused))
        if self._auditing:
            return
        self._auditing = True
        try:
            while self._refusals:
                rows = [self._refusals.popleft() for _ in range(min(BATCH_LIMIT, len(self._refusals)))]
                await self._note(rows)
                if self._unaudited:
                    log.warning("refused_calls_not_audited", calls=self._unaudited, error="too many")
                    self._unaudited = 0
        finally:
            self._auditing = False

    async def _note(self, rows: list[dict[str, Any]]) -> None:
        try:
            async with asyncio.timeout(self._deadlines.transaction_s), self._engine.begin() as connection:
                await note_refusals(connection, rows)
        except (DBAPIError, PoolTimeoutError, TimeoutError, OSError) as error:
            log.warning("refused_calls_not_audited", calls=len(rows), error=type(error).__name__)

    async def store_final_answer(self, key: str, status_code: int, answer: dict[str, Any]) -> None:
        """Store the final answer of a call that waited, so that a retry gets the same answer."""
        keys = tables.idempotency_keys
        of_key = keys.update().where(keys.c.scope == KEY_SCOPE, keys.c.key == key)
        async with self._engine.begin() as connection:
            await connection.execute(of_key.values(status_code=status_code, answer=answer))

    async def _commit_forever(self) -> None:
        running = True
        while running:
            first = await self._queue.get()
            if first is None:
                break
            batch = [first]
            while len(batch) < BATCH_LIMIT and not self._queue.empty():
                waiting = self._queue.get_nowait()
                if waiting is None:
                    running = False
                    break
                batch.append(waiting)
            # A call must not be accepted after its caller has gone or was told that nothing was accepted.
            if live := [w for w in batch if not w.future.done()]:
                for waiting in live:
                    waiting.begun = True
                await self._commit(live)

    async def _commit(self, waiting: list[_Waiting], lock_timeout: LockTimeout = LockTimeout.BRIEF) -> None:
        """Commit a batch and answer its calls. After a fault that one call may have caused, commit them one by one.

        The batch waits only briefly for locks that other transactions hold. Then the calls that need these locks are
        committed separately, so that the other calls need not wait for them.
        """
        try:
            outcomes = await self._transaction([w.call for w in waiting], lock_timeout)
        except _LockedError:
            await self._commit(waiting, LockTimeout.NONE)
        except (DatabaseAwayError, OutcomeUnknownError) as error:
            for w in waiting:
                w.resolve(error)
        except Exception as error:  # the edge answers 500; the loop must go on for the other callers
            if len(waiting) == 1:
                log.exception("accept_failed")
                waiting[0].resolve(error)
                return
            log.warning("accept_batch_split", calls=len(waiting), error=type(error).__name__)
            for w in waiting:
                await self._commit([w], lock_timeout)
        else:
            locked: dict[tuple[int | None, str | None], list[_Waiting]] = {}
            for w, outcome in zip(waiting, outcomes, strict=True):
                if outcome is not None:
                    w.resolve(outcome)
                else:
                    w.begun = False
                    locked.setdefault((w.call.vps_id, w.call.order_id), []).append(w)
            for same_target in locked.values():
                task = asyncio.create_task(self._commit_separately(same_target), name="acceptor-separate")
                self._separate.add(task)
                task.add_done_callback(self._separate.discard)

    async def _commit_separately(self, waiting: list[_Waiting]) -> None:
        """Commit calls for one VPS or order that another transaction has locked, as soon as the lock is free."""
        async with self._separate_slots:
            if live := [w for w in waiting if not w.future.done()]:
                for w in live:
                    w.begun = True
                await self._commit(live, LockTimeout.FULL)

    async def _commit_in_order(self, series: _Series) -> None:
        """Commit the calls of one request, part by part, until the first that the database does not take."""
        try:
            for part in _parts(series.calls):
                if not await self._commit_part(series, part):
                    return
        finally:
            self._in_order -= len(series.calls)

    async def _commit_part(self, series: _Series, part: list[Call]) -> bool:
        """Commit the next calls of a request together. Returns whether the calls after them may be tried.

        The part fails as a whole if one of its calls needs a lock that is held, or meets a bug. Then it is cut into
        smaller ones, at last of one call each. So no other call's locks are held while that call waits.
        """
        async with self._in_order_slots:
            if not series.may_begin():
                return False
            series.begun += len(part)
            outcomes = await self._outcomes_of_part(part)
            series.outcomes += outcomes
            series.begun = len(series.outcomes)
        if outcomes:
            return not any(isinstance(outcome, DatabaseAwayError | OutcomeUnknownError) for outcome in outcomes)
        size = max(1, len(part) // PIECES)
        for start in range(0, len(part), size):
            if not await self._commit_part(series, part[start : start + size]):
                return False
        return True

    async def _outcomes_of_part(self, part: list[Call]) -> list[Outcome | Exception]:
        """An outcome for each call; none at all if nothing was accepted because of one of several calls."""
        try:
            outcomes = await self._transaction(part, LockTimeout.BRIEF if len(part) > 1 else LockTimeout.FULL)
        except _LockedError:
            return []
        except (DatabaseAwayError, OutcomeUnknownError) as error:
            return [error] * len(part)
        except Exception as error:  # the edge answers 500 for this call
            if len(part) == 1:
                log.exception("accept_failed")
                return [error]
            log.warning("accept_batch_split", calls=len(part), error=type(error).__name__)
            return []
        return [outcome for outcome in outcomes if outcome is not None]

    async def _transaction(self, calls: list[Call], lock_timeout: LockTimeout) -> list[Outcome | None]:
        trace, others = common_trace(call.traceparent for call in calls)
        with span("journal calls", continues=trace, links=others, attributes={"panel.calls": len(calls)}):
            for attempt in (1, 2):
                try:
                    return await self._attempt(calls, lock_timeout)
                except DBAPIError as error:
                    if attempt == 1 and error.connection_invalidated:  # before COMMIT, perhaps since long ago
                        await self._engine.dispose()  # the other idle connections may be as dead
                        continue
                    if attempt == 1 and _state(error) in RETRIABLE:
                        continue
                    if _state(error) == LOCKED and lock_timeout is LockTimeout.BRIEF:
                        raise _LockedError from error
                    if is_away(error):
                        raise DatabaseAwayError(type(error.orig).__name__) from error
                    raise
                except (PoolTimeoutError, TimeoutError, OSError) as error:
                    raise DatabaseAwayError(type(error).__name__) from error
            raise AssertionError("unreachable")

    async def _attempt(self, calls: list[Call], lock_timeout: LockTimeout) -> list[Outcome | None]:
        committing = False
        batch = Batch(calls, lock_timeout, self._deadlines)
        try:
            async with asyncio.timeout(self._deadlines.transaction_s), self._engine.connect() as connection:
                await batch.decide_and_write(connection)
                committing = True
                await connection.commit()
                return batch.outcomes
        except (DBAPIError, TimeoutError, OSError) as error:
            if committing and not _is_undone(error):
                return await self._ask_the_journal(batch)
            raise

    async def _ask_the_journal(self, batch: Batch) -> list[Outcome | None]:
        """The answer to COMMIT was lost: find out from the database whether it happened."""
        try:
            await self._engine.dispose()  # the idle connections may be as dead as the lost one
            async with asyncio.timeout(self._deadlines.transaction_s), self._engine.connect() as connection:
                status = await connection.scalar(text("SELECT pg_xact_status(CAST(:xid AS xid8))"), {"xid": batch.xid})
                # After a crash, PostgreSQL may give the number of a lost transaction to a new one. So the operations
                # themselves are looked up, too. That needs a second statement: the snapshot of the first one is older
                # than the status that it returned.
                journaled = status == "committed" and await batch.is_journaled(connection)
        except (DBAPIError, PoolTimeoutError, TimeoutError, OSError) as error:
            raise OutcomeUnknownError(batch.single_operation_id) from error
        if journaled:
            return batch.outcomes
        if status in {"committed", "aborted"}:
            raise DatabaseAwayError("the connection broke before the commit")
        raise OutcomeUnknownError(batch.single_operation_id)


def _state(error: BaseException) -> str | None:
    return getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None


def _is_undone(error: BaseException) -> bool:
    """Whether a COMMIT that failed with this error has certainly changed nothing."""
    return isinstance(error, DBAPIError) and (_state(error) in RETRIABLE or not is_away(error))


def _parts(calls: Sequence[Call]) -> Iterator[list[Call]]:
    """The calls in their order, up to BATCH_LIMIT at a time. A part has no idempotency key twice: a call whose key came
    before is a replay, once the first call with it is committed."""
    part: list[Call] = []
    keys: set[str] = set()
    for call in calls:
        if len(part) == BATCH_LIMIT or call.idempotency_key in keys:
            yield part
            part, keys = [], set()
        part.append(call)
        if call.idempotency_key:
            keys.add(call.idempotency_key)
    if part:
        yield part
