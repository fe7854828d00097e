"""The cookie of a signed-in customer. Its value is the session's token.

Over HTTPS its name begins with ``__Host-``: a browser takes such a cookie from this host alone, and for no other host.
"""

from __future__ import annotations

import hmac
import re

from fastapi import Request
from starlette.responses import Response

from panel.clients.client_sessions import LIFETIME

NAME = "panel_session"
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
"""256 bits, as ``secrets.token_urlsafe(32)`` writes them."""

LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


def in_clear_on_loopback(request: Request) -> bool:
    """Whether the browser asked for this very machine by http. Only then a cookie may go without ``Secure``.

    A proxy on this machine may ask by http for this machine, too, whatever the browser did. Its headers tell.
    """
    through_proxy = any(name == "forwarded" or name.startswith("x-forwarded-") for name in request.headers)
    asked_here = LOOPBACK.fullmatch(request.headers.get("host", "")) is not None
    return request.scope["scheme"] == "http" and asked_here and not through_proxy


def _name(request: Request) -> str:
    return NAME if in_clear_on_loopback(request) else f"__Host-{NAME}"


def session_token(request: Request) -> str | None:
    """The token in the request's cookie, if there is one."""
    return token_in(request, _name(request))


def token_in(request: Request, cookie: str) -> str | None:
    """The token in a cookie. Any other text than a token is nothing, and costs no question to the database."""
    token = request.cookies.get(cookie, "")
    return token if TOKEN.fullmatch(token) else None


def set_session(request: Request, response: Response, token: str) -> None:
    """Let the browser keep the token for as long as a session can live."""
    response.set_cookie(
        _name(request),
        token,
        max_age=int(LIFETIME.total_seconds()),
        secure=not in_clear_on_loopback(request),
        httponly=True,
        samesite="lax",
    )


def forget_session(request: Request, response: Response) -> None:
    """Let the browser delete the cookie."""
    secure = not in_clear_on_loopback(request)
    response.delete_cookie(_name(request), secure=secure, httponly=True, samesite="lax")


def form_token(token: str) -> str:
    """What every form of a session carries. Another site cannot know it, and the session's token does not follow from
    it."""
    return hmac.new(token.encode(), b"form", "sha256").hexdigest()
