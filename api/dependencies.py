"""What the routes need, made once per process, and who the caller is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.convertors import Convertor, register_url_convertor

from api.access_audit import AccessAudit
from api.client.jwt_auth import TokenVerifier
from api.client.live_changes import LiveChanges
from api.client.session_cookie import session_token
from api.http.addresses import network_of
from api.http.deadline import within
from api.http.problems import ProblemError
from api.main_site.api_keys import ApiKeys, BadKeyLimiter, Headers, KeyPrefixes
from api.operators.operator_keys import OperatorKeys
from panel.clients.client_sessions import ClientSession, fingerprint, session_of
from panel.clients.round_trips import RoundTrips
from panel.deadlines import Deadlines
from panel.journal.accept import Acceptor
from panel.journal.calls import DatabaseAwayError
from panel.journal.operation_waiter import OperationWaiter
from panel.operators.audit import Actor
from panel.redaction import Redactor
from panel.settings import Settings

READING = {"GET", "HEAD"}

BATCHES_AT_ONCE = 4
"""Batches of sync calls that one process parses, validates or journals at the same time. One more is refused before it
is parsed."""

STATISTICS_WAITING = 20
"""Requests of one process that wait for a read of statistics at the same time. One more waits for nothing."""
REPORTS_AT_ONCE = 3
"""Reports that one process makes for operators at the same time, as pages, JSON or files. Each has one of the few
connections of the reads meanwhile, and customers need the others."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edge:
    """The parts of one API process. Reads have connections of their own, so they cannot starve sync calls, and so have
    the reads of customers, so that no report of an operator delays them."""

    settings: Settings
    acceptor: Acceptor
    reader: AsyncEngine
    clients: RoundTrips
    operation_waiter: OperationWaiter
    keys: ApiKeys
    operator_keys: OperatorKeys
    prefixes: KeyPrefixes
    limiter: BadKeyLimiter
    verifier: TokenVerifier
    live: LiveChanges
    access: AccessAudit
    redactor: Redactor
    batches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BATCHES_AT_ONCE))
    statistics_waiting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STATISTICS_WAITING))
    reports: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REPORTS_AT_ONCE))

    @property
    def deadlines(self) -> Deadlines:
        return Deadlines(self.settings.answer_within_s)

    @property
    def link_credential(self) -> str:
        """The fingerprint of the secret that signs sign-in links; empty without one."""
        secret = self.settings.sign_in_secret.get_secret_value()
        return fingerprint(b"link " + secret.encode()) if secret else ""

    def release_waiting(self) -> None:
        """The process is ending: what waits for something is answered now."""
        self.operation_waiter.release()
        self.live.release()

    async def read(self, work: Coroutine[Any, Any, T], began: float | None = None) -> T:
        """Do a read of the database before its deadline. Raises DatabaseAwayError.

        ``began``: when the request began (``time.perf_counter``), if it may have waited for something else before. Then
        the deadline covers that wait, too.
        """
        spent_s = 0.0 if began is None else time.perf_counter() - began
        try:
            return await within(self.deadlines.left_to_read_s(spent_s), work)
        except TimeoutError as error:
            raise DatabaseAwayError("no answer in time") from error


class IdConvertor(Convertor[int]):
    """Matches a path segment that can be an id. Any other segment is answered 404."""

    regex = "[1-9][0-9]{0,17}"  # 18 digits are more than the sequence will ever give

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", IdConvertor())


async def _edge(request: Request) -> Edge:
    return cast("Edge", request.app.state.edge)


EdgeOf = Annotated[Edge, Depends(_edge)]

# These only describe the credentials in the OpenAPI document. The code below reads the raw headers.
_api_key_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The key shared with the main site")
_operator_header = APIKeyHeader(
    name="X-API-Key", scheme_name="OperatorKey", auto_error=False, description="The operators' own key"
)
_bearer_header = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A client's token")


async def _main_site(
    request: Request, edge: EdgeOf, _described: Annotated[str | None, Security(_api_key_header)]
) -> str:
    return main_site_label(request, edge)


def main_site_label(request: Request, edge: Edge) -> str:
    """The label of the main site's key that the request has. Raises ProblemError."""
    label = edge.keys.label_of(request.scope["headers"])
    if label is None:
        raise _bad_key(request, edge)
    request.scope["api_key_label"] = label  # for the access log
    request.scope["caller"] = f"main-site:{label}"  # for the audit of use
    return label


async def _operator(
    request: Request, edge: EdgeOf, _described: Annotated[str | None, Security(_operator_header)]
) -> Actor:
    return _operator_of(request, edge, request.scope["headers"])


def _operator_of(request: Request, edge: Edge, headers: Headers) -> Actor:
    found = edge.operator_keys.operator_of(headers)
    if found is None:
        raise _bad_key(request, edge, headers)
    request.scope["api_key_label"] = request.scope["caller"] = f"api:{found.label}"
    if request.method not in READING and found.role != "operate":  # checked by method, so that no route can forget it
        raise ProblemError(403, "role_required", "This needs a key with the role operate")
    network = network_of(request.client.host if request.client else None)
    return Actor(f"api:{found.name}", found.role, request.scope["request_id"], network)


async def _monitoring(request: Request, edge: EdgeOf) -> Actor:
    """An operator's key as ``_operator`` takes it, or as ``Authorization: Bearer``, which is what Prometheus sends."""
    headers = []
    for name, value in request.scope["headers"]:
        scheme, _, key = value.partition(b" ")
        bearer = name == b"authorization" and scheme.lower() == b"bearer"
        headers.append((b"x-api-key", key.strip()) if bearer else (name, value))
    return _operator_of(request, edge, headers)


def _bad_key(request: Request, edge: Edge, headers: Headers | None = None) -> ProblemError:
    """Count one more wrong key. Returns the refusal."""
    prefix = edge.prefixes.name_of(request.scope["headers"] if headers is None else headers)
    request.scope["caller"] = "no-key" if prefix is None else f"key:{prefix}"
    return edge.limiter.refusal(request.client.host if request.client else None, prefix)


async def _client(
    request: Request, edge: EdgeOf, _described: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer_header)]
) -> int:
    request.scope["caller"] = "token"
    user_id = await edge.verifier.user_of(request.headers.getlist("authorization"))
    request.scope["caller"] = f"client:{user_id}"
    return user_id


@dataclass(frozen=True, slots=True)
class Listener:
    """A client by token or session. ``left_s``: for how many seconds that is still good."""

    user_id: int
    left_s: float


async def customer_session(request: Request, edge: Edge) -> ClientSession | None:
    """The live session of the request's cookie. One whose sign-in was verified with a key that is not in use any more
    counts as none. Raises ProblemError 503 if it is not known whether the key is in use."""
    token = session_token(request)
    session = (
        None if token is None else await edge.read(session_of(edge.clients, edge.reader, token), request.scope["began"])
    )
    if session is None:
        return None
    known = session.credential == edge.link_credential or await edge.verifier.in_use(session.credential)
    return session if known else None


async def _client_or_cookie(
    request: Request, edge: EdgeOf, _described: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer_header)]
) -> Listener:
    if "authorization" not in request.headers and (session := await customer_session(request, edge)) is not None:
        request.scope["caller"] = f"client:{session.user_id}"
        return Listener(session.user_id, session.left_s)
    request.scope["caller"] = "token"
    token = await edge.verifier.bearer(request.headers.getlist("authorization"))
    request.scope["caller"] = f"client:{token.user_id}"
    return Listener(token.user_id, max(0.0, token.expires_at - time.time()))


MainSite = Annotated[str, Depends(_main_site)]
"""The label of the API key that was used."""

Operator = Annotated[Actor, Depends(_operator)]
"""The operator who asks. With the role ``read`` only reads get this far."""

Monitoring = Annotated[Actor, Depends(_monitoring)]
"""As Operator, but the key may also come as a bearer token."""

Client = Annotated[int, Depends(_client)]
"""The panel user id of the token."""

ClientOrCookie = Annotated[Listener, Depends(_client_or_cookie)]
"""The client of the token, or a signed-in customer of the pages. For reads only: no form token is asked for."""
