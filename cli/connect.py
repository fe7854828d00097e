"""Connections to PostgreSQL and Redis. Faults become sentences that never show a password."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import redis
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from cli.errors import CommandError
from panel.broker import fault_of, redis_client, try_work
from panel.migrate import current_revision, head_revision
from panel.sessions import listening, refusal, sqlstate, sync_engine

REDIS_TIMEOUT_S = 3.0
REACH_S = 3.0


def place(url: str) -> str:
    """Host, port and path of a URL, without its credentials."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or 'localhost'}{port}{parts.path}"


def database_fault(error: DBAPIError, url: str) -> str:
    """What the driver's error means, as a sentence. It goes by SQLSTATE, which is the same in every language.

    Before a session exists, libpq gives no SQLSTATE, only the server's message in the server's language. That message
    is shown without the passwords of ``url``. A connection test finds out whether anything listens at all. The text of
    a statement's error is never shown, because it may quote values.
    """
    state = sqlstate(error)
    if state in {"28P01", "28000"}:
        return "the user or the password is refused"
    if state == "3D000":
        return "there is no such database"
    if state == "42501":
        return "the user lacks a right on it"
    if state is not None:
        return f"it answered with error {state}"
    if listening(url, REACH_S) is False:
        return "it can't be reached"
    return f"no session: {refusal(error, url)}"


@contextlib.contextmanager
def opened(url: str) -> Iterator[Engine]:
    """An engine. Every database fault inside the block becomes a CommandError."""
    engine = sync_engine(url, "panel-sync command")
    try:
        yield engine
    except DBAPIError as error:
        raise CommandError(f"PostgreSQL at {place(url)} (DATABASE_URL): {database_fault(error, url)}") from error
    finally:
        engine.dispose()


def require_head(engine: Engine) -> None:
    """Raise CommandError unless the database has this version's tables."""
    current, needed = current_revision(engine), head_revision()
    if current != needed:
        at = f"at revision {current}" if current else "empty"
        raise CommandError(f"The database is {at}, this version needs {needed}; run: panel-sync migrate")


@contextlib.contextmanager
def opened_panel(url: str) -> Iterator[Engine]:
    """Like ``opened``, for a database that must have this version's tables."""
    with opened(url) as engine:
        require_head(engine)
        yield engine


def require_redis(url: str) -> None:
    """Raise CommandError unless Redis takes work."""
    client = redis_client(url, REDIS_TIMEOUT_S)
    try:
        try_work(client)
    except (redis.RedisError, OSError) as error:
        raise CommandError(f"Redis at {place(url)} (REDIS_URL): {fault_of(error)}") from error
    finally:
        client.close()
