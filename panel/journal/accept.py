"""Take sync calls into the journal: committed before they are answered.

Group commit: calls that arrive while a commit is under way share the next one, so that under load many calls
pay for one fsync. Within a batch every call is decided on its own; a refused one spoils no other.
"""

from __future__ import annotations

import asyncio
from collections import deque
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
    Call,
    DatabaseAwayError,
    Outcome,
    OutcomeUnknownError,
    OverloadedError,
    Refused,
)
from panel.journal.journal_state import KEY_SCOPE, LockTimeout
from panel.journal.refusals import note_refusals, refused_row
from panel.schema import tables
from panel.sessions import is_away

log = structlog.get_logger(__name__)

BATCH_LIMIT = 128  # calls per commit; more would make the first of them wait
RETRIABLE = {"40001", "40P01"}  # serialization, deadlock
LOCKED = "55P03"
REFUSALS_LIMIT = 1000  # that wait for their audit; an hour keeps no more of them
MOST_APART = 2  # transactions beside the common one, each with a connection, for calls that must wait for a lock


@dataclass(slots=True)
class _Waiting:
    call: Call
    future: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    begun: bool = False  # its transaction may commit

    def settle(self, outcome: Outcome | BaseException) -> None:
        if self.future.done():  # the caller went away; what was committed stays committed
            return
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class _LockedError(Exception):
    """Somebody else holds what a call of the batch needs."""


class Acceptor:
    """One per API process. ``accept`` may be called from any number of request handlers."""

    def __init__(self, engine: AsyncEngine, *, max_waiting: int = 2000, deadlines: Deadlines = DEFAULT) -> None:
        self._engine = engine
        self._deadlines = deadlines
        self._max_waiting = max_waiting
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._apart: set[asyncio.Task[None]] = set()
        self._room_apart = asyncio.Semaphore(MOST_APART)
        self._refusals: deque[dict[str, Any]] = deque()
        self._auditing = False
        self._unaudited = 0

    async def start(self) -> None:
        """Start the committing task."""
        self._task = asyncio.create_task(self._commit_forever(), name="acceptor")

    async def stop(self) -> None:
        """Commit and answer what waits, then end."""
        if self._task is not None:
            await self._queue.put(None)
            await self._task
            self._task = None
        while self._apart:
            await asyncio.wait(self._apart)

    async def accept(self, call: Call) -> Outcome:
        """Journal one call. Raises DatabaseAwayError or OverloadedError (nothing accepted), or OutcomeUnknownError.

        After ``Deadlines.queue_s`` it is given up: a call that is still in the queue never will be accepted; of
        another nobody knows yet.
        """
        if self._queue.qsize() >= self._max_waiting:
            raise OverloadedError("too many calls are waiting for the database")
        waiting = _Waiting(call)
        await self._queue.put(waiting)
        try:
            async with asyncio.timeout(self._deadlines.queue_s):
                return await waiting.future
        except TimeoutError:
            if waiting.begun:
                raise OutcomeUnknownError(None) from None
            raise DatabaseAwayError("the calls before it are not committed yet") from None

    async def audit(self, call: Call, refused: Refused) -> None:
        """Leave a refused-calls row for a refusal decided at the edge. Best effort, as an audit of what
        changed nothing may be; a failure is logged.

        One connection at most, however many are refused: whoever writes takes along what comes meanwhile, and what
        finds no room is only counted.
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

    async def settle_answer(self, key: str, status_code: int, answer: dict[str, Any]) -> None:
        """Keep what a waiting call was finally told, so that its retries are told the same."""
        keys = tables.idempotency_keys
        statement = (
            keys.update()
            .where(keys.c.scope == KEY_SCOPE, keys.c.key == key)
            .values(status_code=status_code, answer=answer)
        )
        async with self._engine.begin() as connection:
            await connection.execute(statement)

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
            # A caller that was told "unknown" or went away while waiting must not be accepted behind its back.
            if live := [w for w in batch if not w.future.done()]:
                for waiting in live:
                    waiting.begun = True
                await self._commit(live)

    async def _commit(self, waiting: list[_Waiting], lock_timeout: LockTimeout = LockTimeout.BRIEF) -> None:
        """Commit a batch and answer it; on a fault that one call may have caused, call by call.

        What others hold is waited for briefly. Then the calls that need it wait apart, and the rest goes on.
        """
        try:
            outcomes = await self._transaction([w.call for w in waiting], lock_timeout)
        except _LockedError:
            await self._commit(waiting, LockTimeout.NONE)
        except (DatabaseAwayError, OutcomeUnknownError) as error:
            for w in waiting:
                w.settle(error)
        except Exception as error:  # the edge answers 500; the loop must go on for everybody else
            if len(waiting) == 1:
                log.exception("accept_failed")
                waiting[0].settle(error)
                return
            log.warning("accept_batch_split", calls=len(waiting), error=type(error).__name__)
            for w in waiting:
                await self._commit([w], lock_timeout)
        else:
            held: dict[tuple[int | None, str | None], list[_Waiting]] = {}
            for w, outcome in zip(waiting, outcomes, strict=True):
                if outcome is not None:
                    w.settle(outcome)
                else:
                    w.begun = False
                    held.setdefault((w.call.vps_id, w.call.order_id), []).append(w)
            for alike in held.values():
                task = asyncio.create_task(self._commit_apart(alike), name="acceptor-apart")
                self._apart.add(task)
                task.add_done_callback(self._apart.discard)

    async def _commit_apart(self, waiting: list[_Waiting]) -> None:
        """Commit calls for one VPS or order that somebody holds, as soon as it is free."""
        async with self._room_apart:
            if live := [w for w in waiting if not w.future.done()]:
                for w in live:
                    w.begun = True
                await self._commit(live, LockTimeout.FULL)

    async def _transaction(self, calls: list[Call], lock_timeout: LockTimeout) -> list[Outcome | None]:
        for attempt in (1, 2):
            try:
                return await self._attempt(calls, lock_timeout)
            except DBAPIError as error:
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
        """COMMIT's answer was lost: the journal itself tells whether it happened."""
        try:
            async with asyncio.timeout(self._deadlines.transaction_s), self._engine.connect() as connection:
                status = await connection.scalar(text("SELECT pg_xact_status(CAST(:xid AS xid8))"), {"xid": batch.xid})
                # A server that crashed gives the number of a transaction it lost to the next one that comes. Asked
                # by a statement of its own: the snapshot of the first is older than the status it told.
                there = status == "committed" and await batch.is_there(connection)
        except (DBAPIError, PoolTimeoutError, TimeoutError, OSError) as error:
            raise OutcomeUnknownError(batch.single_operation_id) from error
        if there:
            return batch.outcomes
        if status in {"committed", "aborted"}:
            raise DatabaseAwayError("the connection broke before the commit")
        raise OutcomeUnknownError(batch.single_operation_id)


def _state(error: BaseException) -> str | None:
    return getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None


def _is_undone(error: BaseException) -> bool:
    """Whether a COMMIT that ended so has certainly changed nothing."""
    return isinstance(error, DBAPIError) and (_state(error) in RETRIABLE or not is_away(error))
