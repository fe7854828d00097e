"""Connections to PostgreSQL, with timeouts so that one slow query cannot stop the panel; and the check that a
connection keeps its session.

A transaction pooler gives each transaction another session. Session locks, LISTEN and temporary tables are then lost or
belong to another client. Code that needs one of them calls ``require_session`` first.

If the check passes, the connection leads to the server itself or to a pooler that keeps the session. The check finds a
pooler that chooses a session for each transaction, whether it prefers the session used last or the one unused longest,
and also if another client takes a session in between. Only a pooler that keeps several clients on one session for good
would pass by mistake, and no known pooler does that. Even then no work is done twice: each write of a run checks the
epoch of its lease (:mod:`panel.runs.lease`), and a duty that beat asks for twice is done once
(:mod:`panel.runs.schedule_duties`).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from panel.deadlines import DEFAULT, Deadlines
from panel.printable import printable
from panel.redaction import Redactor, passwords_in
from panel.server_urls import sqlalchemy_url, verified_postgres_url
from tracing.spans import Kind, inner_span
from tracing.statement_names import statement_name

READ_ONLY = "25006"
"""A server that takes no writes: a standby after a failover, or one set read-only because its disk is full."""

AWAY_CLASSES = frozenset({"08", "40", "53", "57", "58"})
"""SQLSTATE classes: connection, rollback because of another transaction, resources, intervention by an operator or a
timeout, system error."""

AWAY_STATES = frozenset({READ_ONLY, "55P03"})  # 55P03: another transaction holds the lock

OF_ONE_MOMENT = {"isolation_level": "REPEATABLE READ"}
"""Options of a transaction whose statements all see the rows of one moment, so that lists and counts agree."""


def _arguments(application: str, statement_ms: int, lock_ms: int) -> dict[str, Any]:
    return {
        "application_name": application,
        "client_encoding": "utf8",
        "connect_timeout": 3,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        # Never prepare a statement: a pooler may run the next transaction in a session that does not know it.
        "prepare_threshold": None,
        "options": " ".join(f"-c {name}={value}" for name, value in _parameters(statement_ms, lock_ms).items()),
    }


def _parameters(statement_ms: int, lock_ms: int) -> dict[str, str]:
    return {
        "statement_timeout": str(statement_ms),
        "lock_timeout": str(lock_ms),
        "idle_in_transaction_session_timeout": "30000",
        "timezone": "UTC",
        "synchronous_commit": "on",  # an accepted call is on the disk, whatever the server's or role's default is
    }


def _set_in_each_transaction(engine: Engine, parameters: Mapping[str, str]) -> None:
    """Set the parameters in each transaction. Behind a pooler, parameters of a session would reach its next client."""
    statement = setting(parameters)

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql(statement)


def setting(parameters: Mapping[str, str]) -> str:
    """The statement that sets these parameters for its transaction."""
    calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in parameters.items())
    return f"SELECT {calls}"  # own names and numbers


def keep_values_out(error: psycopg.Error) -> None:
    """Shorten PostgreSQL's error, in place, to text that never quotes a row.

    DETAIL and CONTEXT quote rows (``Key (email)=(...) already exists``, ``COPY ..., line 1: ...``), and so does the
    message itself in class 22 (``invalid input syntax for type integer: "..."``). Errors end up in logs, in tracebacks
    and, by Celery's events, in Flower. ``sqlstate`` and ``diag`` stay. An error that no server sent stays as it is.
    """
    state, sentence = error.sqlstate, error.diag.message_primary
    if state is not None and sentence is not None:
        error.args = (f"PostgreSQL refused a value (SQLSTATE {state})" if state.startswith("22") else sentence,)


def is_away(error: BaseException) -> bool:
    """Whether a statement failed because of the database's own state, so that the same statement may succeed later."""
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # no server sent it: a lost connection, or a value that was never sent
        return error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))
    return error.connection_invalidated or state[:2] in AWAY_CLASSES or state in AWAY_STATES


def _on_error(context: ExceptionContext) -> None:
    error, wrapper = context.original_exception, context.sqlalchemy_exception
    if isinstance(error, psycopg.Error):
        if error.sqlstate == READ_ONLY:  # a new connection may reach another server, or find the setting gone
            context.is_disconnect = True
        original = str(error)
        keep_values_out(error)
        if wrapper is not None:  # SQLAlchemy has already copied the text into its own error
            wrapper.args = tuple(a.replace(original, str(error)) if isinstance(a, str) else a for a in wrapper.args)


def _verified(url: str) -> str:
    return sqlalchemy_url(verified_postgres_url(url))


def plain_engine(url: str, application: str) -> Engine:
    """An engine without timeouts, for migrations, which set their own."""
    return create_engine(
        _verified(url),
        connect_args={
            "application_name": application,
            "client_encoding": "utf8",
            "connect_timeout": 10,
            "prepare_threshold": None,
        },
    )


def own_connection(url: str, patience: Mapping[str, Any]) -> psycopg.Connection[Any]:
    """A connection outside any pool that commits each statement, for a caller that needs one session for long.

    ``patience``: libpq's settings, mostly timeouts. SQLAlchemy splits the URL, because libpq's errors quote a URL that
    it cannot read.
    """
    parts = make_url(_verified(url))
    _, place = parts.get_dialect()().create_connect_args(parts)
    return psycopg.connect(**{**place, **patience}, autocommit=True)


def driver_connection(connection: Connection) -> psycopg.Connection[Any]:
    """The driver's connection under SQLAlchemy's."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("the driver of this connection must be psycopg 3")
    return driver


class DirectStatements:
    """Statements of one transaction that go to psycopg itself: for the few paths on which SQLAlchemy, which compiles
    and adapts each statement, costs more than the statement does. The transaction remains SQLAlchemy's, and errors are
    as from it. Values have placeholders such as ``%(name)s``; no statement is prepared on the server."""

    def __init__(self, connection: AsyncConnection, driver: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._driver = driver

    @classmethod
    async def begin(cls, connection: AsyncConnection) -> Self:
        """Begin a transaction of SQLAlchemy's connection."""
        await connection.begin()
        driver = (await connection.get_raw_connection()).driver_connection
        if not isinstance(driver, psycopg.AsyncConnection):
            raise TypeError("the driver of this connection must be psycopg 3")
        return cls(connection, driver)

    async def rows(self, statement: str, values: Mapping[str, Any], *, name: str = "") -> list[dict[str, Any]]:
        """The rows that the statement gives. ``name``: of its span, if not as its text has it. Raises DBAPIError."""
        with inner_span(name or str(statement_name(statement)), Kind.CLIENT, {"db.system.name": "postgresql"}):
            try:
                cursor = self._driver.cursor(row_factory=dict_row)
                await cursor.execute(statement.encode(), values)
                return await cursor.fetchall()
            except psycopg.Error as error:
                keep_values_out(error)
                lost = self._driver.closed or error.sqlstate == READ_ONLY
                if lost:
                    await self._connection.invalidate(error)
                raise DBAPIError.instance(
                    None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=lost
                ) from error


def sync_engine(url: str, application: str, *, statement_ms: int = 20_000, pool_size: int = 2) -> Engine:
    """An engine for a worker or a command. Make it after fork; dispose of it at exit.

    Timeouts in milliseconds. ``pool_pre_ping`` finds connections that a PostgreSQL restart has cut.
    """
    engine = create_engine(
        _verified(url),
        pool_size=pool_size,
        max_overflow=2,
        pool_timeout=5,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,  # an error's text must not quote customers' values
        connect_args=_arguments(application, statement_ms, lock_ms=5_000),
    )
    event.listen(engine, "handle_error", _on_error)
    return engine


def async_engine(
    url: str,
    application: str,
    *,
    pool_size: int = 10,
    deadlines: Deadlines = DEFAULT,
    pooled: bool = False,
    pre_ping: bool = True,
) -> AsyncEngine:
    """The API's engine. Its timeouts are short, because every answer must come in time.

    ``pooled``: the URL leads to a transaction pooler, so the timeouts are set in each transaction. ``pre_ping``: each
    transaction first asks whether its connection still works; False for a caller that tries a lost one again itself.
    """
    arguments = _arguments(application, *_timeouts_ms(deadlines))
    if pooled:
        del arguments["options"]
    engine = create_async_engine(
        _verified(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=deadlines.connection_s,
        pool_pre_ping=pre_ping,
        pool_recycle=1800,
        hide_parameters=True,  # an error's text must not quote customers' values
        connect_args=arguments | {"connect_timeout": max(2, int(deadlines.answer_within_s))},
    )
    event.listen(engine.sync_engine, "handle_error", _on_error)
    if pooled:
        _set_in_each_transaction(engine.sync_engine, api_parameters(deadlines))
    return engine


def api_parameters(deadlines: Deadlines) -> dict[str, str]:
    """What a session of the API has, or, behind a transaction pooler, each transaction."""
    return _parameters(*_timeouts_ms(deadlines))


def _timeouts_ms(deadlines: Deadlines) -> tuple[int, int]:
    """Of a statement, and of waiting for a lock."""
    return int(1000 * deadlines.statement_s), int(1000 * deadlines.connection_s)


ROUNDS = 3


class NoSessionError(Exception):
    """The connection does not keep its session, but the caller needs that. The message says which setting to change."""

    def __init__(self, setting: str = "DATABASE_SESSION_URL") -> None:
        super().__init__(
            "the connection leads to a pooler that gives each transaction another session: set"
            f" {setting} to the server itself, or to a pooler in session mode"
        )


def require_session(connection: psycopg.Connection[Any]) -> None:
    """Raise NoSessionError unless this connection keeps its session from one transaction to the next.

    ``connection`` must be outside a transaction. A server reports the process id of the session when a connection
    begins, a pooler reports another number. Behind a pooler, a second connection tries to take the first one's session:

    1. It begins a transaction right after one of the first connection, so it may get the session used last.
    2. It keeps its session while the first connection begins another transaction. If the first one then has another
       session, another client took its session.
    3. It gives its session back and begins again, so it may get the session unused longest.
    """
    mine = _session_now(connection)
    if mine == connection.info.backend_pid:
        return
    for _ in range(ROUNDS):
        with connection.__class__.connect(
            connection.info.dsn, password=connection.info.password, connect_timeout=3, prepare_threshold=None
        ) as other:
            kept = _session_now(connection) == mine and _begin(other) != mine
            if not kept or _session_now(connection) != mine:
                raise NoSessionError
            other.commit()
            if _begin(other) == mine:
                raise NoSessionError


async def require_session_async(connection: psycopg.AsyncConnection[Any]) -> None:
    """The same for the API's event loop."""
    mine = await _session_now_async(connection)
    if mine == connection.info.backend_pid:
        return
    for _ in range(ROUNDS):
        async with await psycopg.AsyncConnection.connect(
            connection.info.dsn, password=connection.info.password, connect_timeout=3, prepare_threshold=None
        ) as other:
            kept = await _session_now_async(connection) == mine and await _begin_async(other) != mine
            if not kept or await _session_now_async(connection) != mine:
                raise NoSessionError
            await other.commit()
            if await _begin_async(other) == mine:
                raise NoSessionError


def _session_now(connection: psycopg.Connection[Any]) -> int:
    """Begin and end a transaction. Returns the process id of its session."""
    session = _begin(connection)
    if not connection.autocommit:
        connection.rollback()
    return session


def _begin(connection: psycopg.Connection[Any]) -> int:
    """Begin a transaction, or go on with the current one. Returns the process id of its session."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0


async def _session_now_async(connection: psycopg.AsyncConnection[Any]) -> int:
    session = await _begin_async(connection)
    if not connection.autocommit:
        await connection.rollback()
    return session


async def _begin_async(connection: psycopg.AsyncConnection[Any]) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    return int(row[0]) if row else 0


REFUSAL_LENGTH = 500
"""How many characters of a server's refusal are shown."""


def sqlstate(error: BaseException) -> str | None:
    """The code of a database error. None if there was no session yet: then libpq gives no code."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return state if isinstance(state, str) else None


def refusal(error: BaseException, url: str) -> str:
    """The code of a database error. If there is none, what the server or libpq says, without the passwords of ``url``.

    The text of a statement's error is never shown, because it may quote values.
    """
    if (state := sqlstate(error)) is not None:
        return state
    said = printable(" ".join(str(getattr(error, "orig", error)).split()))
    return Redactor(passwords_in(url))(said)[:REFUSAL_LENGTH]


def listening(url: str, timeout_s: float) -> bool | None:
    """Whether anything accepts connections at the URL's address. None if the URL names no single host."""
    target = make_url(sqlalchemy_url(url))
    host = target.query.get("hostaddr") or target.query.get("host") or target.host or ""
    if not isinstance(host, str) or not host or host.startswith(("/", "@")) or "," in host:
        return None
    try:
        with socket.create_connection((host, target.port or 5432), timeout=timeout_s):
            return True
    except OSError:
        return False
