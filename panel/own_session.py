"""Whether a connection is a session of PostgreSQL's own, or a place in the queue of a transaction pooler.

Locks of a session, LISTEN and temporary tables are lost, or somebody else's, behind a pooler that gives each
transaction to another session. Whoever needs one of them asks here first.
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
    """There is no session where one is needed; the message says which setting to change."""

    def __init__(self) -> None:
        super().__init__(MEND)


def require_session(connection: psycopg.Connection[Any]) -> None:
    """Raise NoSessionError unless this connection keeps its session from one transaction to the next.

    ``connection``: outside of a transaction. A server gives its process id when a connection begins; a pooler gives
    another. Then a second connection is opened beside: in transaction mode it meets the session of the first, or
    drives the first to another one.
    """
    mine = _backend(connection)
    if mine == connection.info.backend_pid:
        return
    for _ in range(ROUNDS):
        with connection.__class__.connect(
            connection.info.dsn, password=connection.info.password, connect_timeout=3, prepare_threshold=None
        ) as other:  # its transaction stays open to the end of the block
            if other.execute("SELECT pg_backend_pid()").fetchone() == (mine,) or _backend(connection) != mine:
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
            found = await (await other.execute("SELECT pg_backend_pid()")).fetchone()
            if found == (mine,) or await _backend_async(connection) != mine:
                raise NoSessionError


def _backend(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    if not connection.autocommit:
        connection.rollback()
    return int(row[0]) if row else 0


async def _backend_async(connection: psycopg.AsyncConnection[Any]) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    if not connection.autocommit:
        await connection.rollback()
    return int(row[0]) if row else 0
