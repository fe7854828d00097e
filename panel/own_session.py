"""Whether a connection is a PostgreSQL session of its own, or shares sessions behind a transaction pooler.

A transaction pooler gives each transaction another session. Session locks, LISTEN and temporary tables are then lost or
belong to another client. Code that needs one of them calls this check first.

A passed check proves that the connection leads to the server itself, or to a pooler that keeps the session. A pooler
that chooses anew for each transaction is found whether it prefers the session used last or the one unused longest, also
if another client takes one in between. A pooler that kept several clients on one session for good would pass; no known
one does. Even then no work is done twice: each write of a run checks the epoch of its lease (:mod:`panel.runs.lease`),
and what beat asks for twice is done once (:mod:`panel.runs.schedule_duties`).
"""

from __future__ import annotations

from typing import Any

import psycopg

ROUNDS = 3

MEND = (
    "DATABASE_URL leads to a pooler that gives each transaction another session: let DATABASE_SESSION_URL name the"
    " server itself, or a pooler in session mode"
)


class NoSessionError(Exception):
    """The connection keeps no session, but one is needed. The message says which setting to change."""

    def __init__(self) -> None:
        super().__init__(MEND)


def require_session(connection: psycopg.Connection[Any]) -> None:
    """Raise NoSessionError unless this connection keeps its session from one transaction to the next.

    ``connection``: outside a transaction. A server reports its process id when a connection begins; a pooler reports
    another. Then a second connection tries to get the first one's session. It tries right after a transaction of the
    first, so it meets the session used last. It keeps what it got while the first begins another transaction, which
    then moves if its session was taken. It tries again after it gave its own session back, so it meets the session
    unused longest.
    """
    mine = _backend(connection)
    if mine == connection.info.backend_pid:
        return
    for _ in range(ROUNDS):
        with connection.__class__.connect(
            connection.info.dsn, password=connection.info.password, connect_timeout=3, prepare_threshold=None
        ) as other:
            kept = _backend(connection) == mine and _begun(other) != mine
            if not kept or _backend(connection) != mine:
                raise NoSessionError
            other.commit()
            if _begun(other) == mine:
                raise NoSessionError


async def require_session_async(connection: psycopg.AsyncConnection[Any]) -> None:
    """The same for the API's event loop."""
    mine = await _backend_async(connection)
    if mine == connection.info.backend_pid:
        return
    for _ in range(ROUNDS):
        async with await psycopg.AsyncConnection.connect(
            connection.info.dsn, password=connection.info.password, connect_timeout=3, prepare_threshold=None
        ) as other:
            kept = await _backend_async(connection) == mine and await _begun_async(other) != mine
            if not kept or await _backend_async(connection) != mine:
                raise NoSessionError
            await other.commit()
            if await _begun_async(other) == mine:
                raise NoSessionError


def _backend(connection: psycopg.Connection[Any]) -> int:
    """The session of a transaction that ends at once."""
    found = _begun(connection)
    if not connection.autocommit:
        connection.rollback()
    return found


def _begun(connection: psycopg.Connection[Any]) -> int:
    """The session of the current transaction."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0


async def _backend_async(connection: psycopg.AsyncConnection[Any]) -> int:
    found = await _begun_async(connection)
    if not connection.autocommit:
        await connection.rollback()
    return found


async def _begun_async(connection: psycopg.AsyncConnection[Any]) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    return int(row[0]) if row else 0
