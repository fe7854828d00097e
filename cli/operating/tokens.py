"""``panel-sync token``: a client's token, for support and for trying things out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import jwt
import typer

from cli.environment import command_settings
from cli.errors import CommandError
from cli.operating.operator_transaction import act
from cli.operating.options import duration
from cli.output.console import out
from panel.operators.actions import users
from panel.settings import Settings


def client_token(settings: Settings, user_id: int, now: datetime, ttl: timedelta, username: str = "") -> str:
    """An HS256 token like those of the main site. ``now``: with a time zone. Raises CommandError if the panel would not
    accept a token signed with JWT_SECRET."""
    secret = settings.jwt_secret.get_secret_value()
    if not secret:
        raise CommandError(
            "JWT_SECRET is not set, so no token can be signed here"
            + (" (tokens are verified by public key; ask their issuer)" if _by_public_key(settings) else "")
        )
    if "HS256" not in settings.jwt_algorithms:
        raise CommandError("JWT_ALGORITHMS does not list HS256, so a token signed with JWT_SECRET would be refused")
    claims: dict[str, object] = {
        "user_id": user_id,
        "username": username or f"user{user_id}",
        "sub": str(user_id),
        "iat": now,
        "exp": now + ttl,
    }
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    return jwt.encode(claims, secret, algorithm="HS256")


def token(
    user: Annotated[int, typer.Option("--user", min=1, help="The panel's user id (not the main site's).")],
    ttl: Annotated[
        timedelta, typer.Option("--ttl", parser=duration, metavar="DURATION", help="How long it is valid: 15m, 24h.")
    ] = "24h",  # type: ignore[assignment]  # Typer hands the default to the parser
    username: Annotated[str, typer.Option("--username", help="Its username claim, for information only.")] = "",
) -> None:
    """Print a JWT that reads one client's own VPS (GET /api/vps). Keep it safe: its holder acts as that client.

    With DATABASE_URL set, the audit records who made the token. If the audit cannot be written, no token is printed.

    Example: panel-sync token --user 5 --ttl 15m

    Ends with 0; with 2, and why, if no token can be made here.
    """
    settings = command_settings()
    signed = client_token(settings, user, datetime.now(UTC), ttl, username)
    if settings.database_url:
        act(users.note_token, user)
    # Without Rich's wrapping, because people pipe and paste the token.
    out.print(signed, soft_wrap=True)


def _by_public_key(settings: Settings) -> bool:
    return bool(settings.jwt_public_key or settings.jwt_jwks_url)
