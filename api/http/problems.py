"""Every error of the API has one form: the members of RFC 9457, a ``message`` for people and a stable ``code``."""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from panel.journal.calls import DatabaseAwayError, NotTriedError, OutcomeUnknownError, OverloadedError
from panel.operator_error import Fault, OperatorError
from panel.records.public import Place, operation_url

log = structlog.get_logger(__name__)

FRAMEWORK_CODES = {404: "not_found", 405: "method_not_allowed"}
REFUSED: Mapping[Fault, tuple[int, str]] = {
    "unknown": (404, "operator_unknown"),
    "conflict": (409, "operator_conflict"),
    "invalid": (422, "operator_invalid"),
    "forbidden": (403, "role_required"),
}
"""Status and code of the answer to an operator's request that cannot be met."""

SERVER_FAULT = "The panel failed to answer this request; it is logged under the request id"


class ProblemError(Exception):
    """A refused request. ``extra`` adds members (``field``, ``missing``). No member repeats a value that may be
    secret."""

    def __init__(
        self,
        status_code: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.extra = extra


EXPECTED = (ProblemError, OperatorError, DatabaseAwayError, OutcomeUnknownError, OverloadedError)
"""Errors that a route may end with: ``on_problem`` answers them. Any other error is a bug."""


class ProblemResponse(JSONResponse):
    """The body of an error, with the media type of RFC 9457."""

    media_type = "application/problem+json"


def problem_body(
    status_code: int, code: str, message: str, instance: str, request_id: str | None, **extra: object
) -> dict[str, Any]:
    """The body of an error. Its ``status`` is RFC 9457's integer; in successes ``status`` is "success"."""
    body: dict[str, Any] = {
        "type": f"urn:panel-sync:problem:{code}",
        "title": http.HTTPStatus(status_code).phrase,
        "status": status_code,
        "detail": message,
        "instance": f"{Place.root}{instance}" if instance else "",
        "message": message,
        "code": code,
        "request_id": request_id,
    }
    return body | extra


def problem_for(request: Request, error: ProblemError, background: BackgroundTask | None = None) -> ProblemResponse:
    """The response of one refused request."""
    request.scope["problem_code"] = error.code  # for the audit of use
    body = problem_content(request, error)
    return ProblemResponse(body, error.status_code, headers=error.headers, background=background)


def problem_content(request: Request, error: ProblemError) -> dict[str, Any]:
    """The body that tells why a request, or an item of it, was refused."""
    request_id = request.scope.get("request_id")
    return problem_body(error.status_code, error.code, error.message, request.url.path, request_id, **error.extra)


async def on_problem(request: Request, error: Exception) -> ProblemResponse:
    """Answer a ProblemError, a parameter of the wrong form, an operator's request that cannot be met, or a database
    that is away, overloaded or did not confirm a commit."""
    return problem_for(request, as_problem(error))


def as_problem(error: Exception) -> ProblemError:
    """The problem that the caller gets for this error, and when to try again. Any other error is raised again."""
    match error:
        case ProblemError():
            return error
        case RequestValidationError():  # a parameter of the path or the query; its value is not repeated
            first = error.errors()[0]
            name = str(first["loc"][-1])
            return ProblemError(422, "invalid_parameter", f"{name}: {first['msg']}", field=name)
        case OperatorError():
            status_code, code = REFUSED[error.fault]
            return ProblemError(status_code, code, str(error))
        case DatabaseAwayError():
            message = "The panel's database is away; nothing was accepted, try again"
            return ProblemError(503, "database_away", message, headers={"Retry-After": "5"})
        case OverloadedError():
            message = "Too many calls are waiting; nothing was accepted, try again"
            return ProblemError(503, "overloaded", message, headers={"Retry-After": "1"})
        case NotTriedError():
            message = "The panel did not come to this item of the batch; nothing of it was accepted, send it again"
            return ProblemError(503, "not_tried", message, headers={"Retry-After": "1"})
        case OutcomeUnknownError():
            return _outcome_unknown(error.operation_id)
        case _:
            raise error


def _outcome_unknown(operation_id: int | None) -> ProblemError:
    message = (
        "The database did not confirm whether the call was accepted; repeat it with the same "
        "Idempotency-Key or order_id"
    )
    extra: dict[str, Any] = {}
    if operation_id is not None:
        message += ", or look the operation up"
        extra["operation"] = {"id": operation_id, "url": operation_url(operation_id)}
    return ProblemError(503, "outcome_unknown", message, headers={"Retry-After": "5"}, **extra)


async def on_http_exception(request: Request, error: Exception) -> ProblemResponse:
    """Answer the framework's 404 and 405."""
    if not isinstance(error, HTTPException):
        raise error
    code = FRAMEWORK_CODES.get(error.status_code, "http_error")
    message = {
        404: f"There is nothing at {request.url.path[:200]}",
        405: f"{request.method} is not possible here",
    }.get(error.status_code, error.detail)
    return problem_for(request, ProblemError(error.status_code, code, message, headers=error.headers))
