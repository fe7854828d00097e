"""Who looks at a page, and whether a form comes from one of the panel's own pages."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from api.client.session_cookie import form_token, session_token
from api.dependencies import EdgeOf, customer_session
from api.http.bodies import form_body
from api.http.problems import ProblemError
from api.pages.rendering import NotSignedInError

FORM_BYTES = 16 * 1024
"""The largest form: a token has up to 8 KB."""

PAGE_OF = "x-page-of"
"""A page that renews itself says whose it is: the panel's id of the customer."""

LOAD_ANEW = {"HX-Refresh": "true"}
"""Tells a page that renews itself to load as a whole, because what it shows is no longer this customer's."""

OWN_SITES = {"same-origin", "none"}
"""What ``Sec-Fetch-Site`` says of a form of this site, and of a visitor who repeats one."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The customer who is signed in. ``token``: of the session."""

    user_id: int
    username: str | None
    token: str = field(repr=False)

    @property
    def form_token(self) -> str:
        """What the forms of the page must carry."""
        return form_token(self.token)


async def _signed_in(request: Request, edge: EdgeOf) -> SignedIn:
    token = session_token(request)
    session = await customer_session(request, edge)
    if token is None or session is None:
        raise NotSignedInError
    request.scope["caller"] = f"client:{session.user_id}"  # for the audit of use
    if request.headers.get(PAGE_OF, str(session.user_id)) != str(session.user_id):
        # A tab from before another customer signed in. Their list does not belong under the former one's name.
        raise ProblemError(409, "another_customer", "The page is of another customer", headers=LOAD_ANEW)
    found = SignedIn(session.user_id, session.username, token)
    request.scope["signed_in"] = found  # for the head of the page
    return found


Customer = Annotated[SignedIn, Depends(_signed_in)]
"""The customer who is signed in. Others are sent to the sign-in page."""


async def own_form(request: Request) -> dict[str, str]:
    """The fields of a form that no other site sent. Raises ProblemError."""
    if request.headers.get("sec-fetch-site", "none") not in OWN_SITES:
        raise ProblemError(403, "other_site", "The form was sent by another site")
    return await form_body(request, FORM_BYTES)


async def sign_in_form(request: Request) -> dict[str, str]:
    """The fields of a form to sign in. Raises ProblemError.

    It has no session whose token it could carry, and another site could send its own visitor's token or key. So the
    browser must say that no other site sent it; every browser since 2023 does.
    """
    if "sec-fetch-site" not in request.headers:
        raise ProblemError(403, "other_site", "The browser does not say which site sent the form")
    return await own_form(request)


async def session_form(request: Request, token: str) -> dict[str, str]:
    """The fields of a form of this session's pages. Raises ProblemError."""
    fields = await own_form(request)
    if not hmac.compare_digest(form_token(token).encode(), fields.get("form_token", "").encode()):
        raise ProblemError(403, "wrong_form_token", "The form is not one of this session")
    return fields
