"""Waits until an operation is finished. Each process has one listening connection, and polls slowly besides."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from typing import Any

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.journal.calls import DatabaseAwayError
from panel.journal.rows import FINISHED_CHANNEL
from panel.records.reads import Operation, finished_among, operation
from panel.sessions import NoSessionError, require_session_async

log = structlog.get_logger(__name__)

POLL_S = 1.0  # a notification may be lost with its connection; one query serves all waiting callers
RECONNECT_S = (0.1, 5.0)
NO_SESSION_S = 300.0  # before trying to listen again after a pooler refused a session; the poll works meanwhile
AWAY = (DBAPIError, psycopg.Error, PoolTimeoutError, OSError)


class OperationWaiter:
    """One per API process."""

    def __init__(self, engine: AsyncEngine, *, listener: AsyncEngine) -> None:
        self._engine, self._listener = engine, listener
        self._waiting: dict[int, set[asyncio.Event]] = defaultdict(set)
        self._tasks: list[asyncio.Task[None]] = []
        self._released = False

    async def start(self) -> None:
        """Begin to listen. While the database is away, it tries again in the background."""
        self._tasks = [
            asyncio.create_task(self._listen_forever(), name="operation-waiter-listen"),
            asyncio.create_task(self._poll_forever(), name="operation-waiter-poll"),
        ]

    async def stop(self) -> None:
        """Stop listening. Callers that still wait run into their timeout."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def wait(self, operation_id: int, timeout_s: float) -> Operation | None:
        """The operation once it is finished, or as it is after ``timeout_s``; None if it does not exist.

        Raises DatabaseAwayError when it cannot be read.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        notified = asyncio.Event()
        self._waiting[operation_id].add(notified)  # before the first read, so that no notification is missed
        try:
            while True:
                current = await operation(self._engine, operation_id)
                if current is None or current.finished or self._released:
                    return current
                try:
                    async with asyncio.timeout_at(deadline):
                        await notified.wait()
                except TimeoutError:
                    return current
                notified.clear()
        finally:
            self._waiting[operation_id].discard(notified)
            if not self._waiting[operation_id]:
                del self._waiting[operation_id]

    def release(self) -> None:
        """The process is ending: every waiting call returns its operation as it is now."""
        self._released = True
        self._wake(list(self._waiting))

    def _wake(self, operation_ids: Iterable[int]) -> None:
        for id_ in operation_ids:
            for event in self._waiting.get(id_, ()):
                event.set()

    async def _listen_forever(self) -> None:
        pause = RECONNECT_S[0]
        while True:
            try:
                async with self._listening() as connection:
                    pause = RECONNECT_S[0]
                    self._wake(list(self._waiting))  # operations may have finished while it was not listening
                    async for notification in connection.notifies():
                        if notification.payload.isdecimal():
                            self._wake([int(notification.payload)])
            except NoSessionError as error:
                log.warning("settlements_poll_only", why=str(error))
                await asyncio.sleep(NO_SESSION_S)
            except AWAY as error:
                log.warning("settlements_database_away", error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_S[1])

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        # If connecting is cancelled half-way, the connection stays half open at the server until it times out.
        connecting = asyncio.ensure_future(self._connect())
        try:
            connection = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            with contextlib.suppress(*AWAY):
                await (await connecting).close()
            raise
        try:
            await connection.set_autocommit(True)
            await require_session_async(connection)
            await connection.execute(f"LISTEN {FINISHED_CHANNEL}")
            yield connection
        finally:
            await connection.close()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        """A new connection that lives as long as the process, so the pool does not own it."""
        raw = await self._listener.raw_connection()
        connection = raw.driver_connection
        if not isinstance(connection, psycopg.AsyncConnection):
            raise TypeError("listening needs psycopg 3")
        raw.detach()
        return connection

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            if self._waiting:
                try:
                    self._wake(await finished_among(self._engine, self._waiting))
                except DatabaseAwayError as error:
                    log.info("settlements_poll_failed", error=str(error))
