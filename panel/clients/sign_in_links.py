"""Uses a signed link of the main site, once: the customer becomes a user of the panel and is signed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.clients.client_sessions import begin_session, writing

VALID = timedelta(minutes=5)
"""How long a link can be used."""

AHEAD = timedelta(minutes=1)
"""How far the main site's clock may be ahead of the database's."""


@dataclass(frozen=True, slots=True)
class SignInLink:
    """A link whose signature was verified. ``user_id``: the panel's id of the customer. ``made_at``: seconds since 1970
    on the main site's clock. ``signature``: in lower-case hex."""

    user_id: int
    username: str
    email: str | None
    made_at: int
    signature: str


class Unusable(Enum):
    """Why a link with a right signature signs nobody in."""

    EXPIRED = "expired"
    NOT_YET = "not-yet"
    USED = "used"


async def use_link(
    engine: AsyncEngine, link: SignInLink, credential: str, *, instead_of: str | None = None
) -> str | Unusable:
    """Sign the customer in. Returns the new session's token. ``credential``: the fingerprint of the link's secret.

    One transaction on the database's clock decides it, so two API processes never both use one link. ``instead_of``:
    the token of a session that ends now. The user's id at the main site stays as it is: the link does not name it.
    """
    made_at = datetime.fromtimestamp(link.made_at, UTC)
    async with writing(engine) as connection:
        now: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
        if made_at > now + AHEAD:
            return Unusable.NOT_YET
        if now >= made_at + VALID:
            return Unusable.EXPIRED
        used = await connection.execute(USE, {"signature": link.signature, "expires_at": made_at + VALID})
        if used.rowcount == 0:
            return Unusable.USED
        user = {"id": link.user_id, "username": link.username, "email": link.email}
        await connection.execute(STORE_USER, user)
        return await begin_session(connection, link.user_id, credential, instead_of=instead_of)


USE = text(
    "INSERT INTO used_sign_in_links (signature, expires_at) VALUES (:signature, :expires_at) ON CONFLICT DO NOTHING"
)

# An e-mail that changes is verified no more: the import maps users by verified e-mails. A row that says the same
# already is neither written nor locked for long, because sync calls for the user would wait.
STORE_USER = text("""
INSERT INTO users AS u (id, username, email) VALUES (:id, :username, :email)
ON CONFLICT (id) DO UPDATE SET username = excluded.username, email = coalesce(excluded.email, u.email),
  email_verified = u.email_verified AND lower(coalesce(excluded.email, u.email)) IS NOT DISTINCT FROM lower(u.email),
  updated_at = clock_timestamp()
WHERE (u.username, u.email) IS DISTINCT FROM (excluded.username, coalesce(excluded.email, u.email))
""")
