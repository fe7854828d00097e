"""Which operator looks at a page, and how a form of a page becomes an action."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ParamSpec, TypeVar
from urllib.parse import quote

from fastapi import Depends, Request
from pydantic import BaseModel
from sqlalchemy import Connection
from starlette.responses import Response

from api.client.session_cookie import form_token
from api.dependencies import READING, Edge, EdgeOf
from api.http.addresses import network_of
from api.http.problems import ProblemError, as_problem
from api.operator_pages.operator_cookie import operator_token
from api.operators.transactions import in_transaction
from api.operators.validation import validated
from api.pages.rendering import NotSignedInError, PageRoute, redirect
from api.pages.signed_in import session_form
from panel.operator_error import OperatorError
from panel.operators.actions.action import Action
from panel.operators.audit import Actor
from panel.operators.pages.operator_sessions import LiveSession, leave_notice, live_session, take_notice

P = ParamSpec("P")
B = TypeVar("B", bound=BaseModel)

OPERATOR_PATH = re.compile(r"/ops(/[A-Za-z0-9][A-Za-z0-9_.:-]{0,128}){0,4}")
"""A page of operators, without its query."""

CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class OperatorPageRoute(PageRoute):
    """A route whose errors are operators' pages."""

    problem = "operators/problem.html"


@dataclass(frozen=True, slots=True)
class SignedInOperator:
    """The operator who is signed in. ``form_token``: what the forms of the page must carry. ``notice``: what the last
    action answered."""

    actor: Actor
    name: str
    session: LiveSession
    token: str
    form_token: str
    notice: str | None

    @property
    def now(self) -> datetime:
        """The time on the database's clock, for ages."""
        return self.session.now

    def may(self, action: Action[..., Any]) -> bool:
        """Whether a page shows this operator the form of an action."""
        return action.open_to(self.actor.role)


async def _signed_in_operator(request: Request, edge: EdgeOf) -> SignedInOperator:
    path = request.scope["path"]
    sign_in = "/ops/sign-in"
    if request.method in READING and path != "/ops" and OPERATOR_PATH.fullmatch(path):
        sign_in += f"?next={quote(path)}"
    token = operator_token(request)
    if token is None:
        raise NotSignedInError(sign_in)
    holders = edge.operator_keys.holders_of(token)

    def read(connection: Connection) -> tuple[LiveSession, str | None] | None:
        live = live_session(connection, {hash_: holder.name for hash_, holder in holders.items()})
        if live is None:
            return None
        return live, take_notice(connection, live.token_hash) if request.method in READING else None

    found = await in_transaction(edge, read)
    if found is None:
        raise NotSignedInError(sign_in)
    session, notice = found
    holder = holders[session.token_hash]
    request.scope["api_key_label"] = request.scope["caller"] = f"api:{holder.label}"  # for the log and the audit of use
    network = network_of(request.client.host if request.client else None)
    actor = Actor(f"api:{holder.name}", holder.role, request.scope["request_id"], network)
    operator = SignedInOperator(actor, holder.name, session, token, form_token(token), notice)
    request.scope["signed_in"] = operator  # for the head of the page
    return operator


Operator = Annotated[SignedInOperator, Depends(_signed_in_operator)]
"""The operator who is signed in. Others are sent to the sign-in page of operators."""


async def page_form(request: Request, operator: SignedInOperator) -> dict[str, str]:
    """The fields of a form of this session's pages, without control characters. Raises ProblemError."""
    fields = await session_form(request, operator.token)
    return {name: CONTROL.sub(" ", value).strip() for name, value in fields.items()}


async def action_form(request: Request, operator: SignedInOperator, action: Action[..., Any]) -> dict[str, str]:
    """The fields of the form of an action. Raises ProblemError, also if the operator's role does not allow it."""
    fields = await page_form(request, operator)
    if not operator.may(action):
        raise ProblemError(403, "role_required", f"This needs a key with the role {action.role}.")
    return fields


def whole(value: str) -> int | str:
    """A form's number. What is none stays as it is, so that its model names the field."""
    return int(value) if re.fullmatch("[0-9]{1,18}", value) else value


@contextmanager
def leading_back(back: str) -> Iterator[None]:
    """If what is done inside is refused, the page that tells why leads to the page ``back``. Raises ProblemError."""
    try:
        yield
    except (OperatorError, ProblemError) as error:
        refused = as_problem(error)
        refused.extra["back"] = back
        raise refused from error


def form_body(model: type[B], fields: Mapping[str, object], back: str) -> B:
    """What the form of the page ``back`` said, as this model. Raises ProblemError, whose message repeats no value."""
    with leading_back(back):
        return validated(model, fields)


async def perform(
    edge: Edge,
    operator: SignedInOperator,
    action: Action[P, Any],
    back: str,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Response:
    """Do the action and send the browser to the page ``back``, which shows what the action answered.

    Raises ProblemError and DatabaseAwayError. If the action is refused, the page that tells why leads to ``back``, too.
    """

    def work(connection: Connection) -> None:
        done = action(connection, operator.actor, *args, **kwargs)
        leave_notice(connection, operator.session.token_hash, done.message)

    with leading_back(back):
        await in_transaction(edge, work)
    return redirect(back)
