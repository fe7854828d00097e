"""Wait until an operation is settled: one listening connection per process, and a slow poll beneath it."""

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
from panel.journal.rows import SETTLED_CHANNEL
from panel.records.reads import Operation, operation, settled_among
from panel.sessions import NoSessionError, require_session_async

log = structlog.get_logger(__name__)

POLL_S = 1.0  # a notification may be lost with its connection; one query serves all who wait
RECONNECT_S = (0.1, 5.0)
NO_SESSION_S = 300.0  # until it is looked again whether there is a session; waiting callers are served by the poll
AWAY = (DBAPIError, psycopg.Error, PoolTimeoutError, OSError)


class Settlements:
    """One per API process."""

    def __init__(self, engine: AsyncEngine, *, listener: AsyncEngine | None = None, poll_s: float = POLL_S) -> None:
        self._engine, self._listener = engine, listener or engine
        self._poll_s = poll_s
        self._waiting: dict[int, set[asyncio.Event]] = defaultdict(set)
        self._tasks: list[asyncio.Task[None]] = []
        self._released = False

    async def start(self) -> None:
        """Begin to listen; a database that is away is tried again in the background."""
        self._tasks = [
            asyncio.create_task(self._listen_forever(), name="settlements-listen"),
            asyncio.create_task(self._poll_forever(), name="settlements-poll"),
        ]

    async def stop(self) -> None:
        """Stop listening; who still waits is told nothing new and runs into its timeout."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def wait(self, operation_id: int, timeout_s: float) -> Operation | None:
        """The operation once it is settled, or as it is after ``timeout_s``; None if there is no such one.

        Raises DatabaseAwayError when it cannot be read.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        told = asyncio.Event()
        self._waiting[operation_id].add(told)  # before the first read: what settles in between wakes us
        try:
            while True:
                found = await operation(self._engine, operation_id)
                if found is None or found.settled or self._released:
                    return found
                try:
                    async with asyncio.timeout_at(deadline):
                        await told.wait()
                except TimeoutError:
                    return found
                told.clear()
        finally:
            self._waiting[operation_id].discard(told)
            if not self._waiting[operation_id]:
                del self._waiting[operation_id]

    def release(self) -> None:
        """The process ends: nobody waits any longer, each is told what is known."""
        self._released = True
        self._tell(list(self._waiting))

    def _tell(self, operation_ids: Iterable[int]) -> None:
        for id_ in operation_ids:
            for event in self._waiting.get(id_, ()):
                event.set()

    async def _listen_forever(self) -> None:
        pause = RECONNECT_S[0]
        while True:
            try:
                async with self._listening() as connection:
                    pause = RECONNECT_S[0]
                    self._tell(list(self._waiting))  # whatever was settled while nobody listened
                    async for notification in connection.notifies():
                        if notification.payload.isdecimal():
                            self._tell([int(notification.payload)])
            except NoSessionError as error:
                log.warning("settlements_poll_only", why=str(error))
                await asyncio.sleep(NO_SESSION_S)
            except AWAY as error:
                log.warning("settlements_database_away", error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_S[1])

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        # Cancelled in the middle, a connection would stay half open at the server until it times out.
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
            await connection.execute(f"LISTEN {SETTLED_CHANNEL}")
            yield connection
        finally:
            await connection.close()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        """A connection of its own: it lives as long as the process and is not the pool's."""
        raw = await self._listener.raw_connection()
        connection = raw.driver_connection
        if not isinstance(connection, psycopg.AsyncConnection):
            raise TypeError("listening needs psycopg 3")
        raw.detach()
        return connection

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            if self._waiting:
                try:
                    self._tell(await settled_among(self._engine, self._waiting))
                except DatabaseAwayError as error:
                    log.info("settlements_poll_failed", error=str(error))
