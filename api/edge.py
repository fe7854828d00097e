"""What the routes need, made once per process, and who is asking."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.convertors import Convertor, register_url_convertor

from api.api_keys import ApiKeys, BadKeyLimiter
from api.deadline import within
from api.jwt_auth import TokenVerifier
from panel.accept import Acceptor
from panel.calls import DatabaseAwayError
from panel.settings import Settings
from panel.settlements import Settlements

OPERATOR = "api:operator"
READ_S = 1.8  # seconds; with the work around it an answer, good or bad, comes within two

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edge:
    """The parts of one API process. Reads have connections of their own, so they cannot starve sync calls."""

    settings: Settings
    acceptor: Acceptor
    reader: AsyncEngine
    settlements: Settlements
    keys: ApiKeys
    operator_keys: ApiKeys
    limiter: BadKeyLimiter
    verifier: TokenVerifier


class IdConvertor(Convertor[int]):
    """A path segment that can be an id; any other segment is simply not found."""

    regex = "[0-9]{1,19}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", IdConvertor())


async def _edge(request: Request) -> Edge:
    return cast("Edge", request.app.state.edge)


EdgeOf = Annotated[Edge, Depends(_edge)]

# These only describe the credentials in the OpenAPI document; the raw headers are read below.
_api_key_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The key shared with the main site")
_operator_header = APIKeyHeader(
    name="X-API-Key", scheme_name="OperatorKey", auto_error=False, description="The operators' own key"
)
_bearer_header = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A client's token")


async def _main_site(
    request: Request, edge: EdgeOf, _described: Annotated[str | None, Security(_api_key_header)]
) -> str:
    label = edge.keys.label_of(request.scope["headers"])
    if label is None:
        raise edge.limiter.refusal(request.client.host if request.client else None)
    request.scope["api_key_label"] = label  # for the access log
    return label


async def _operator(
    request: Request, edge: EdgeOf, _described: Annotated[str | None, Security(_operator_header)]
) -> str:
    if edge.operator_keys.label_of(request.scope["headers"]) is None:
        raise edge.limiter.refusal(request.client.host if request.client else None)
    request.scope["api_key_label"] = OPERATOR  # for the access log
    return OPERATOR


async def _client(
    request: Request, edge: EdgeOf, _described: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer_header)]
) -> int:
    return await edge.verifier.user_of(request.headers.getlist("authorization"))


MainSite = Annotated[str, Depends(_main_site)]
"""The label of the API key that was used."""

Operator = Annotated[str, Depends(_operator)]
"""By whom, as it is kept with what they decide."""

Client = Annotated[int, Depends(_client)]
"""The panel user id of the token."""


async def read(work: Coroutine[Any, Any, T]) -> T:
    """A read of the database, in time. Raises DatabaseAwayError."""
    try:
        return await within(READ_S, work)
    except TimeoutError as error:
        raise DatabaseAwayError("no answer in time") from error
