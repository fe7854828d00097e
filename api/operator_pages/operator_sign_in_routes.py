"""Operators sign in to the pages with their key, and sign out."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import Edge, EdgeOf
from api.http.problems import ProblemError
from api.operator_pages.operator_cookie import forget_operator_session, operator_token, set_operator_session
from api.operator_pages.signed_in_operator import OPERATOR_PATH, OperatorPageRoute
from api.operators.operator_keys import CallingOperator
from api.operators.transactions import in_transaction
from api.pages.rendering import page, redirect
from api.pages.signed_in import own_form, session_form, sign_in_form
from panel.operators.pages.operator_sessions import begin_session, end_session

router = APIRouter(prefix="/ops", include_in_schema=False, route_class=OperatorPageRoute)


@router.get("/sign-in")
async def operator_sign_in(request: Request) -> Response:
    """The form for an operator's key."""
    return _form(request, request.query_params.get("next", ""))


@router.post("/sign-in")
async def sign_in_by_key(request: Request, edge: EdgeOf) -> Response:
    """Sign in with an operator's key. Wrong keys count as everywhere, and after too many the answer is 429."""
    fields = await sign_in_form(request)
    given, wanted = fields.get("key", "").strip(), fields.get("next", "")
    headers = [(b"x-api-key", given.encode())] if given else []
    found = edge.operator_keys.operator_of(headers)
    if found is None:
        prefix = edge.prefixes.name_of(headers)
        request.scope["caller"] = "no-key" if prefix is None else f"key:{prefix}"  # for the audit of use
        refusal = edge.limiter.refusal(request.client.host if request.client else None, prefix)
        request.scope["problem_code"] = refusal.code
        return _form(request, wanted, refusal)
    request.scope["api_key_label"] = request.scope["caller"] = f"api:{found.label}"
    token = secrets.token_urlsafe(32)
    await _begin(edge, found, token, instead_of=operator_token(request))
    answer = redirect(wanted if OPERATOR_PATH.fullmatch(wanted) else "/ops")
    set_operator_session(request, answer, token)
    return answer


async def _begin(edge: Edge, operator: CallingOperator, token: str, *, instead_of: str | None) -> None:
    """Begin a session. ``instead_of``: the token of a session that ends now."""
    hash_ = next(hash_ for hash_, holder in edge.operator_keys.holders_of(token).items() if holder == operator)
    former = edge.operator_keys.holders_of(instead_of) if instead_of is not None else {}

    def work(connection: Connection) -> None:
        for old in former:
            end_session(connection, old)
        begin_session(connection, hash_, operator.name)

    await in_transaction(edge, work)


@router.post("/sign-out")
async def operator_sign_out(request: Request, edge: EdgeOf) -> Response:
    """End the session."""
    token = operator_token(request)
    if token is None:
        await own_form(
            request
        )  # a form of another site comes without the cookie, and must not make the browser drop it
    else:
        await session_form(request, token)
        hashes = edge.operator_keys.holders_of(token)

        def work(connection: Connection) -> None:
            for hash_ in hashes:
                end_session(connection, hash_)

        await in_transaction(edge, work)
    answer = redirect("/ops/sign-in?signed-out")
    forget_operator_session(request, answer)
    return answer


def _form(request: Request, wanted: str, refusal: ProblemError | None = None) -> Response:
    return page(
        request,
        "operators/sign_in.html",
        200 if refusal is None else refusal.status_code,
        None if refusal is None else refusal.headers,
        problem="" if refusal is None else refusal.code,
        wanted=wanted if OPERATOR_PATH.fullmatch(wanted) else "",
        signed_out="signed-out" in request.query_params,
    )
