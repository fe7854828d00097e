"""Uses a signed link of the main site, once: the customer becomes a user of the panel and is signed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.clients.client_sessions import begin_session, writing

log = structlog.get_logger(__name__)

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
    ANOTHER = "another"
    """The panel knows the user as somebody else: the main site put an id of its own into the link."""


async def use_link(
    engine: AsyncEngine, link: SignInLink, credential: str, *, instead_of: str | None = None, mapped: bool = False
) -> str | Unusable:
    """Sign the customer in. Returns the new session's token. ``credential``: the fingerprint of the link's secret.

    One transaction on the database's clock decides it, so two API processes never both use one link. ``instead_of``:
    the token of a session that ends now. The user's id at the main site stays as it is: the link does not name it.
    ``mapped``: the main site has user ids of its own. Then a link that gives a mapped user another name and another
    e-mail at once is refused, because it most likely names the main site's id instead of the panel's.
    """
    made_at = datetime.fromtimestamp(link.made_at, UTC)
    async with writing(engine) as connection:
        now: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
        if made_at > now + AHEAD:
            return Unusable.NOT_YET
        if now >= made_at + VALID:
            return Unusable.EXPIRED
        user = {"id": link.user_id, "username": link.username, "email": link.email}
        if mapped and await connection.scalar(NAMES_ANOTHER, user):
            log.warning("sign_in_link_names_another_user", user_id=link.user_id)
            return Unusable.ANOTHER
        used = await connection.execute(USE, {"signature": link.signature, "expires_at": made_at + VALID})
        if used.rowcount == 0:
            return Unusable.USED
        await connection.execute(STORE_USER, user)
        return await begin_session(connection, link.user_id, credential, instead_of=instead_of)


USE = text(
    "INSERT INTO used_sign_in_links (signature, expires_at) VALUES (:signature, :expires_at) ON CONFLICT DO NOTHING"
)

NAMES_ANOTHER = text(
    "SELECT EXISTS (SELECT FROM users WHERE id = :id AND main_site_user_id IS NOT NULL AND username <> :username"
    " AND lower(email) <> lower(CAST(:email AS text)))"  # an e-mail that is not known proves nothing
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
