"""Reads of customers in one round trip each: all statements of a read go to PostgreSQL together, as one transaction.

SQLAlchemy needs five round trips for a row that a customer may see: is the connection alive, BEGIN, role and user, the
SELECT, ROLLBACK. Here one message carries role, user and statements. Until its end it is one transaction of PostgreSQL,
so role and user, which are local to the transaction, are gone with it.

The connections come from a pool of SQLAlchemy that does not ask whether they are alive. If a connection turns out to be
lost, the read is done again on another one: it changes nothing, so that is safe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from psycopg import abc, generators, pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from panel.deadlines import DEFAULT, Deadlines
from panel.journal.calls import DatabaseAwayError
from panel.sessions import api_parameters, async_engine, keep_values_out, setting

Row = dict[str, Any]

log = structlog.get_logger(__name__)

SERVER_GOES = "57P"
"""SQLSTATEs with which a server ends a session: it shuts down, crashed, or does not take connections yet."""


class Statement:
    """A statement with the places $1, $2, ... Each session parses and plans it once, under the name."""

    __slots__ = ("name", "sql")

    def __init__(self, sql: str) -> None:
        self.sql = sql.encode()
        self.name = b"panel_" + hashlib.sha256(self.sql).hexdigest()[:24].encode()


@dataclass(frozen=True, slots=True)
class Query:
    """A statement and its values, as texts: the statement says of which type each is."""

    statement: Statement
    values: tuple[str | None, ...] = ()


AS_CLIENT = Statement("SELECT set_config('role', 'panel_client', true), set_config('panel.user_id', $1::text, true)")


class RoundTrips:
    """Reads over the connections of one engine. ``parameters``: settings to be made in each transaction, where the
    engine leads to a transaction pooler. Such a pooler may run the next transaction in a session that knows no
    statement of this one, so nothing is prepared then. A pooler that no setting names is found by the first statement
    that its session does not know; then nothing is prepared any more."""

    def __init__(self, engine: AsyncEngine, parameters: Mapping[str, str] | None = None) -> None:
        self._engine = engine
        self._prepares = parameters is None
        self._first: tuple[Query, ...] = ()
        if parameters is not None:
            self._first = (Query(Statement(setting(parameters))),)

    async def dispose(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    async def rows(self, *queries: Query) -> list[list[Row]]:
        """The rows of each query, read as the application. Raises DatabaseAwayError."""
        return await self._rows(queries)

    async def rows_as_client(self, user_id: int, *queries: Query, before: Sequence[Query] = ()) -> list[list[Row]]:
        """The rows of each query, read in a role for which only this user's live records exist, whatever the statement
        says. ``before``: queries for the application itself; their rows come first. Raises DatabaseAwayError."""
        steps = (*before, Query(AS_CLIENT, (str(user_id),)), *queries)
        found = await self._rows(steps)
        del found[len(before)]
        return found

    async def _rows(self, queries: Sequence[Query]) -> list[list[Row]]:
        steps = (*self._first, *queries)
        try:
            while True:
                async with self._engine.connect() as connection:
                    if (found := await self._try(connection, steps)) is not None:
                        return found[len(self._first) :]
        except psycopg.Error as error:
            keep_values_out(error)
            if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
                raise DatabaseAwayError(type(error).__name__) from error
            raise
        except (DBAPIError, PoolTimeoutError, OSError) as error:  # there is no connection
            raise DatabaseAwayError(type(error).__name__) from error

    async def _try(self, connection: AsyncConnection, steps: Sequence[Query]) -> list[list[Row]] | None:
        """The rows; None if another try may do: the connection was lost since it was used last, or a pooler is met."""
        raw = await connection.get_raw_connection()
        driver: psycopg.AsyncConnection[Any] = raw.driver_connection  # type: ignore[assignment]
        prepares = self._prepares  # another read may find a pooler meanwhile
        prepared: set[bytes] | None = raw.info.get("prepared")
        fresh = "used" not in raw.info
        if fresh:
            await driver.set_autocommit(True)  # else the reset of the pool would expect a transaction
            prepared = raw.info["prepared"] = set()
        raw.info["used"] = True
        whole = False
        try:
            results = await driver.wait(_sent(driver.pgconn, steps, prepared if prepares else None))
            whole = True
        except (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement):
            if not prepares:
                raise
            if self._prepares:
                log.warning("statements_not_prepared")  # a pooler gave the transaction another session
            self._prepares = False
            return None
        except psycopg.OperationalError as error:
            cut = driver.pgconn.status != pq.ConnStatus.OK or (error.sqlstate or "").startswith(SERVER_GOES)
            if fresh or not cut:
                raise
            return None
        finally:
            if not whole:  # also after a server's error and where the reader gave up: what it knows is not certain
                await connection.invalidate()
        transformer = Transformer(driver)
        return [_loaded(transformer, result) for result in results]


def client_reads(
    url: str, application: str, *, pool_size: int = 4, deadlines: Deadlines = DEFAULT, pooled: bool = False
) -> RoundTrips:
    """Connections for the reads of customers. ``pooled``: the URL leads to a transaction pooler."""
    engine = async_engine(url, application, pool_size=pool_size, deadlines=deadlines, pooled=pooled, pre_ping=False)
    return RoundTrips(engine, api_parameters(deadlines) if pooled else None)


def _sent(
    connection: pq.abc.PGconn, steps: Sequence[Query], prepared: set[bytes] | None
) -> Generator[Any, Any, list[pq.abc.PGresult]]:
    """Send all steps with one message, and take their results. ``prepared``: the statements that the session knows;
    None: it is not to know any. Raises the server's error."""
    new: list[Statement] = []
    connection.enter_pipeline_mode()
    expected = 0
    for step in steps:
        statement, values = step.statement, [None if value is None else value.encode() for value in step.values]
        if prepared is None:
            connection.send_query_params(statement.sql, values, result_format=pq.Format.BINARY)
        else:
            if statement.name not in prepared and statement not in new:
                # Only here: the rules of row-level security are chosen for the role that is in force by now.
                connection.send_prepare(statement.name, statement.sql)
                new.append(statement)
                expected += 1
            connection.send_query_prepared(statement.name, values, result_format=pq.Format.BINARY)
        expected += 1
    connection.pipeline_sync()
    yield from generators.send(connection)
    results: list[pq.abc.PGresult] = []
    failed: pq.abc.PGresult | None = None
    for _ in range(expected):
        for result in (yield from generators.fetch_many(connection)):
            if result.status == pq.ExecStatus.TUPLES_OK:
                results.append(result)
            elif result.status == pq.ExecStatus.FATAL_ERROR and failed is None:
                failed = result
    yield from generators.fetch_many(connection)  # the end of the message
    connection.exit_pipeline_mode()
    if failed is not None:
        raise error_from_result(failed)
    if prepared is not None:
        prepared.update(statement.name for statement in new)
    return results


def _loaded(transformer: abc.Transformer, result: pq.abc.PGresult) -> list[Row]:
    transformer.set_pgresult(result)
    names = [name.decode() for i in range(result.nfields) if (name := result.fname(i)) is not None]
    return [dict(zip(names, values)) for values in transformer.load_rows(0, result.ntuples, tuple)]  # noqa: B905 - many
