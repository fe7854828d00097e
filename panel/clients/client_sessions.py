"""Sessions of signed-in customers. The database holds the hash of a session's token, the customer's cookie the token.

To delete a row is to end the session. It ends as well when the key or secret that verified the sign-in is not
configured any more: the row holds its fingerprint.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from panel.clients.round_trips import Query, RoundTrips, Statement
from panel.journal.calls import DatabaseAwayError
from panel.sessions import is_away

LIFETIME = timedelta(hours=12)
"""A session's longest life. After it the customer comes from the main site again."""

KEPT = 20
"""Sessions of one user: one for each browser. One more ends the oldest."""


@dataclass(frozen=True, slots=True)
class ClientSession:
    """Who is signed in. ``username``: None for a user that the panel does not know. ``credential``: the fingerprint of
    the key or secret that verified the sign-in; the session counts only while that is in use. ``left_s``: seconds until
    the session expires."""

    user_id: int
    username: str | None
    credential: str
    left_s: float


@contextlib.asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction. Raises DatabaseAwayError if PostgreSQL is away, too slow or takes no writes."""
    try:
        async with engine.begin() as connection:
            yield connection
    except (PoolTimeoutError, OSError) as error:
        raise DatabaseAwayError(type(error).__name__) from error
    except DBAPIError as error:
        if is_away(error):
            raise DatabaseAwayError(type(error).__name__) from error
        raise


def hash_of(token: str) -> str:
    """What the database holds of a token. A token is 256 random bits, so its hash needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


def fingerprint(credential: bytes) -> str:
    """What the database holds of the key or secret behind a session, in hex. The secret does not follow from it."""
    return hmac.digest(credential, b"panel-sync client sessions", hashlib.sha256).hex()


async def begin_session(
    connection: AsyncConnection,
    user_id: int,
    credential: str,
    *,
    until: datetime | None = None,
    instead_of: str | None = None,
) -> str:
    """Begin a session in the caller's transaction. Returns its token. The user keeps the KEPT newest.

    ``credential``: the fingerprint of the key or secret that verified the sign-in.
    ``until``: its end, if that is earlier than LIFETIME allows. ``instead_of``: the token of a session that ends now.
    """
    if instead_of is not None:
        await connection.execute(END, {"hash": hash_of(instead_of)})
    token = secrets.token_urlsafe(32)
    values = {"hash": hash_of(token), "user_id": user_id, "credential": credential}
    await connection.execute(BEGIN, values | {"lifetime": LIFETIME, "until": until})
    await connection.execute(END_OLD, {"user_id": user_id, "kept": KEPT})
    return token


async def session_of(trips: RoundTrips, engine: AsyncEngine, token: str) -> ClientSession | None:
    """The live session with this token. Notes once a minute that it was seen."""
    [found] = await trips.rows(Query(FIND, (hash_of(token),)))
    if not found:
        return None
    [row] = found
    if row["unnoted"]:
        async with writing(engine) as connection:
            await connection.execute(SEEN, {"hash": hash_of(token)})
    return ClientSession(row["user_id"], row["username"], row["credential"], row["left_s"])


async def end_session(engine: AsyncEngine, token: str) -> None:
    """End the session with this token, if there is one."""
    async with writing(engine) as connection:
        await connection.execute(END, {"hash": hash_of(token)})


BEGIN = text(
    "INSERT INTO client_sessions (token_hash, user_id, credential, expires_at)"
    " VALUES (:hash, :user_id, :credential, least(statement_timestamp() + CAST(:lifetime AS interval),"
    " CAST(:until AS timestamptz)))"  # least() leaves NULL out
)
END_OLD = text(
    "DELETE FROM client_sessions WHERE token_hash IN (SELECT token_hash FROM client_sessions"
    " WHERE user_id = :user_id ORDER BY created_at DESC OFFSET :kept)"
)
FIND = Statement(
    "SELECT s.user_id, u.username, s.credential,"
    " CAST(extract(epoch FROM s.expires_at - statement_timestamp()) AS float8) AS left_s,"
    " s.seen_at < statement_timestamp() - interval '1 minute'"
    " AND current_setting('transaction_read_only') = 'off' AS unnoted"  # a standby can show pages, too
    " FROM client_sessions s LEFT JOIN users u ON u.id = s.user_id"
    " WHERE s.token_hash = $1::text AND s.expires_at > statement_timestamp()"
)
SEEN = text("UPDATE client_sessions SET seen_at = clock_timestamp() WHERE token_hash = :hash")
END = text("DELETE FROM client_sessions WHERE token_hash = :hash")
