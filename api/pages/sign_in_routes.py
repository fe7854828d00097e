"""Sign-in by the main site's signed link or by a token, sign-out, and the choice of the language."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.responses import Response

from api.client.jwt_auth import VerifiedToken
from api.client.session_cookie import (
    forget_session,
    form_token,
    in_clear_on_loopback,
    session_token,
    set_session,
)
from api.dependencies import Edge, EdgeOf, customer_session
from api.http.problems import ProblemError
from api.pages.languages import LANGUAGES
from api.pages.rendering import LANGUAGE_COOKIE, PageRoute, page, redirect
from api.pages.signed_in import own_form, session_form, sign_in_form
from api.pages.signed_link import NAMES, InvalidLinkError, WrongSignatureError, read_link
from panel.clients.client_sessions import begin_session, end_session, writing
from panel.clients.sign_in_links import SignInLink, Unusable, use_link

router = APIRouter(include_in_schema=False, route_class=PageRoute)

LOCAL_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,500}")
"""A path of this host. Browsers take ``//host`` and ``/\\host`` for another host's address."""

YEAR_S = 365 * 24 * 3600

LINK_STATUS = {Unusable.EXPIRED: 410, Unusable.USED: 410, Unusable.NOT_YET: 400, Unusable.ANOTHER: 409}


@router.get("/sign-in")
async def sign_in(request: Request, edge: EdgeOf) -> Response:
    """Sign in by a signed link, or show the form for a token."""
    if any(name in request.query_params for name in NAMES):
        return await _by_link(request, edge)
    if await customer_session(request, edge) is not None:
        return redirect("/")
    return sign_in_page(request, edge)


async def _by_link(request: Request, edge: Edge) -> Response:
    parameters = request.query_params.multi_items()
    link = _link_of(request, edge, parameters)
    if isinstance(link, Response):
        return link
    token, session = session_token(request), await customer_session(request, edge)
    if token is None or session is None or session.user_id == link.user_id:
        return await _used(request, edge, link, signed_in=session is not None)
    # Anybody can send their own fresh link to a customer, who would then work in a stranger's account unawares.
    values = [(name, value) for name, value in parameters if name in NAMES]
    return page(
        request,
        "sign_in_as.html",
        link_user=link,
        present=session,
        link_values=[*values, ("form_token", form_token(token))],
    )


@router.post("/sign-in/link")
async def sign_in_by_link(request: Request, edge: EdgeOf) -> Response:
    """Use the link of the page that asked whether to leave the session of another customer."""
    token = session_token(request)
    if token is None:
        return redirect("/sign-in")
    fields = await session_form(request, token)
    link = _link_of(request, edge, fields.items())
    return link if isinstance(link, Response) else await _used(request, edge, link, signed_in=False)


def _link_of(request: Request, edge: Edge, parameters: Iterable[tuple[str, str]]) -> SignInLink | Response:
    """The link with these parameters, or the page that refuses it."""
    request.scope["caller"] = "sign-in-link"
    secret = edge.settings.sign_in_secret.get_secret_value()
    if not secret:
        return _refused(request, edge, "links_off", 404)
    try:
        return read_link(parameters, secret)
    except InvalidLinkError:
        return _refused(request, edge, "link_invalid", 400)
    except WrongSignatureError:
        return _refused(request, edge, "link_wrong", 401)


async def _used(request: Request, edge: Edge, link: SignInLink, *, signed_in: bool) -> Response:
    """Use the link, and sign its customer in. ``signed_in``: they are already, so a second click harms nothing."""
    mapped = edge.settings.user_id_space == "mapped"
    using = use_link(edge.reader, link, edge.link_credential, instead_of=session_token(request), mapped=mapped)
    used = await edge.read(using, request.scope["began"])
    if signed_in and used in {Unusable.USED, Unusable.EXPIRED}:
        return redirect("/")
    if isinstance(used, Unusable):
        return _refused(request, edge, f"link_{used.value}", LINK_STATUS[used])
    request.scope["caller"] = f"client:{link.user_id}"
    answer = redirect("/")
    set_session(request, answer, used)
    return answer


@router.post("/sign-in")
async def sign_in_by_token(request: Request, edge: EdgeOf) -> Response:
    """Sign in by a token that the customer pasted. The session ends when the token does, if not before."""
    request.scope["caller"] = "token"
    fields = await sign_in_form(request)
    pasted = "".join(fields.get("token", "").split())  # what was copied from a page may be broken into lines
    if not pasted:
        return _refused(request, edge, "token_missing", 400)
    try:
        verified = await edge.verifier.verified(pasted)
    except ProblemError as error:
        return _refused(request, edge, error.code, error.status_code, error.headers)
    request.scope["caller"] = f"client:{verified.user_id}"
    begun = _begun(edge.reader, verified, session_token(request))
    answer = redirect("/")
    set_session(request, answer, await edge.read(begun, request.scope["began"]))
    return answer


async def _begun(engine: AsyncEngine, verified: VerifiedToken, instead_of: str | None) -> str:
    until = datetime.fromtimestamp(verified.expires_at, UTC)
    async with writing(engine) as connection:
        return await begin_session(connection, verified.user_id, verified.key, until=until, instead_of=instead_of)


@router.post("/sign-out")
async def sign_out(request: Request, edge: EdgeOf) -> Response:
    """End the session."""
    token = session_token(request)
    if token is None:
        await own_form(
            request
        )  # a form of another site comes without the cookie, and must not make the browser drop it
    else:
        await session_form(request, token)
        await edge.read(end_session(edge.reader, token), request.scope["began"])
    answer = redirect("/sign-in?signed-out")
    forget_session(request, answer)
    return answer


@router.get("/language/{code}")
async def language(request: Request, code: str, back: str = "/") -> Response:
    """Remember the visitor's language, and go back to the page that was open."""
    if code not in LANGUAGES:
        raise ProblemError(404, "not_found", "There is no such language")
    answer = redirect(back if LOCAL_PATH.fullmatch(back) else "/")
    secure = not in_clear_on_loopback(request)
    answer.set_cookie(LANGUAGE_COOKIE, code, max_age=YEAR_S, secure=secure, httponly=True, samesite="lax")
    return answer


def sign_in_page(
    request: Request, edge: Edge, problem: str = "", status_code: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """The page to sign in. ``problem``: why it did not work just now."""
    return page(
        request,
        "sign_in.html",
        status_code,
        headers,
        problem=problem,
        links=bool(edge.settings.sign_in_secret.get_secret_value()),
        main_site=main_site_of(edge),
        signed_out="signed-out" in request.query_params,
    )


def main_site_of(edge: Edge) -> str:
    """Where the pages lead back to: the main site's page for customers. Empty if no setting says it."""
    return edge.settings.sign_in_url or edge.settings.main_site_url


def _refused(
    request: Request, edge: Edge, problem: str, status_code: int, headers: dict[str, str] | None = None
) -> Response:
    request.scope["problem_code"] = problem  # for the audit of use
    challenge = {"WWW-Authenticate": "Bearer"} if status_code == 401 else {}  # a 401 must name one
    return sign_in_page(request, edge, problem, status_code, challenge | (headers or {}))
