"""Sessions of operators who are signed in to the pages.

A session is known by a hash of its token with the operator's key. Only the operator's cookie holds the token, and only
the settings hold the key. So a session ends when it expires, when the operator signs out, and when its key is no longer
configured, because then no process can make its hash any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

LIFETIME = timedelta(hours=12)
"""A session's longest life: one shift."""


def begin_session(connection: Connection, token_hash: str, operator: str) -> None:
    """Begin a session. ``operator``: the operator's name."""
    connection.execute(BEGIN, {"hash": token_hash, "operator": operator, "lifetime": LIFETIME})


@dataclass(frozen=True, slots=True)
class LiveSession:
    """``token_hash``: by which it is known. ``now``: the time on the database's clock."""

    token_hash: str
    now: datetime


def live_session(connection: Connection, names: Mapping[str, str]) -> LiveSession | None:
    """The live session among these hashes, or None. ``names``: by hash, the operator who holds its key now. A session
    of another operator does not count: the key was given to somebody else meanwhile."""
    for row in connection.execute(FIND, {"hashes": sorted(names)}):
        if names[row.token_hash] == row.operator:
            return LiveSession(row.token_hash, row.now)
    return None


def leave_notice(connection: Connection, token_hash: str, notice: str) -> None:
    """Keep a sentence for the next page of the session, in the transaction of the action that it tells of."""
    connection.execute(LEAVE, {"hash": token_hash, "notice": notice})


def take_notice(connection: Connection, token_hash: str) -> str | None:
    """The sentence that was left for the session's next page, once."""
    notice: str | None = connection.scalar(NOTICE, {"hash": token_hash})
    if notice is not None:
        connection.execute(LEAVE, {"hash": token_hash, "notice": None})
    return notice


def end_session(connection: Connection, token_hash: str) -> None:
    """End a session."""
    connection.execute(END, {"hash": token_hash})


BEGIN = text(
    "INSERT INTO operator_sessions (token_hash, operator, expires_at)"
    " VALUES (:hash, :operator, statement_timestamp() + CAST(:lifetime AS interval))"
)
FIND = text(
    "SELECT token_hash, operator, clock_timestamp() AS now FROM operator_sessions"
    " WHERE token_hash = ANY(CAST(:hashes AS text[])) AND expires_at > statement_timestamp()"
)
NOTICE = text("SELECT notice FROM operator_sessions WHERE token_hash = :hash")
LEAVE = text("UPDATE operator_sessions SET notice = CAST(:notice AS text) WHERE token_hash = :hash")
END = text("DELETE FROM operator_sessions WHERE token_hash = :hash")
