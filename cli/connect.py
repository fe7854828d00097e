"""Reaching PostgreSQL and Redis, with faults told as sentences that never show a password."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import redis
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import DBAPIError

from cli.errors import CommandError
from panel.broker import fault_of, redis_client, try_work
from panel.migrate import current_revision, head_revision
from panel.printable import printable
from panel.redaction import Redactor, passwords_in
from panel.sessions import sync_engine
from panel.settings import sqlalchemy_url

REDIS_TIMEOUT_S = 3.0
REACH_S = 3.0


def place(url: str) -> str:
    """Host, port and path of a URL, without its credentials."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or 'localhost'}{port}{parts.path}"


def database_fault(error: DBAPIError, url: str) -> str:
    """What the driver's error means, in words: by its SQLSTATE, which is the same in every language.

    Before a session exists libpq gives none, only what the server said, in the server's language. That is shown as it
    is, without the passwords of ``url``; whether anybody is there at all is found out by connecting. A statement's own
    text is kept out: it may quote values.
    """
    state = getattr(error.orig, "sqlstate", None)
    if state in {"28P01", "28000"}:
        return "the user or the password is refused"
    if state == "3D000":
        return "there is no such database"
    if state == "42501":
        return "the user lacks a right on it"
    if state is not None:
        return f"it answered with error {state}"
    if not _listening(url):
        return "it can't be reached"
    said = printable(" ".join(str(error.orig).split()))
    return f"no session: {Redactor(passwords_in(url))(said)[:SAID]}"


SAID = 500
"""Characters of what a server says before it lets anybody in."""


def _listening(url: str) -> bool:
    """Whether anything takes connections where the URL leads; for a place that is no single host, it may be."""
    place_ = make_url(sqlalchemy_url(url))
    host = place_.query.get("hostaddr") or place_.query.get("host") or place_.host or ""
    if not isinstance(host, str) or not host or host.startswith(("/", "@")) or "," in host:
        return True
    try:
        with socket.create_connection((host, place_.port or 5432), timeout=REACH_S):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def opened(url: str, variable: str = "DATABASE_URL") -> Iterator[Engine]:
    """An engine whose every fault within the block becomes a CommandError naming ``variable``."""
    engine = sync_engine(url, "panel-sync command")
    try:
        yield engine
    except DBAPIError as error:
        raise CommandError(f"PostgreSQL at {place(url)} ({variable}): {database_fault(error, url)}") from error
    finally:
        engine.dispose()


def require_head(engine: Engine) -> None:
    """Raise CommandError unless the database has this version's tables."""
    found, needed = current_revision(engine), head_revision()
    if found != needed:
        at = f"at revision {found}" if found else "empty"
        raise CommandError(f"The database is {at}, this version needs {needed}; run: panel-sync migrate")


@contextlib.contextmanager
def opened_panel(url: str) -> Iterator[Engine]:
    """As ``opened``, for a database that must have this version's tables."""
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
