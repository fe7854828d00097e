"""The cookie of a signed-in operator. Its value is the session's token.

Browsers send it only to ``/ops`` and below, so no page of a customer ever receives it.
"""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from api.client.session_cookie import in_clear_on_loopback, token_in
from api.pages.rendering import link
from panel.operators.pages.operator_sessions import LIFETIME

NAME = "panel_operator"
PATH = "/ops"


def _name(request: Request) -> str:
    """Over HTTPS a prefix keeps hosts that speak plain HTTP from setting it. ``__Host-`` would need another path."""
    return NAME if in_clear_on_loopback(request) else f"__Secure-{NAME}"


def operator_token(request: Request) -> str | None:
    """The token in the request's cookie, if there is one."""
    return token_in(request, _name(request))


def set_operator_session(request: Request, response: Response, token: str) -> None:
    """Let the browser keep the token for as long as a session can live."""
    response.set_cookie(
        _name(request),
        token,
        max_age=int(LIFETIME.total_seconds()),
        path=link(PATH),
        secure=not in_clear_on_loopback(request),
        httponly=True,
        samesite="lax",
    )


def forget_operator_session(request: Request, response: Response) -> None:
    """Let the browser delete the cookie."""
    secure = not in_clear_on_loopback(request)
    response.delete_cookie(_name(request), path=link(PATH), secure=secure, httponly=True, samesite="lax")
