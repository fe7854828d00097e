"""The API for the main site: post a sync call, follow its operation, find a record without knowing its id."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Query, Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, Response

from api import openapi
from api.dependencies import Edge, EdgeOf, MainSite
from api.http.bodies import json_body
from api.http.deadline import within
from api.http.problems import ProblemError, ProblemResponse, problem_body, problem_for
from api.http.request_headers import header_values, idempotency_key, wait_seconds
from api.main_site.received_calls import Answer, answer_of, audit_of, location_of, received_call
from domain.record_columns import MAX_ID
from panel.journal.calls import (
    Accepted,
    Call,
    DatabaseAwayError,
    Outcome,
    Replayed,
)
from panel.records.public import operation_url, public_record, success_body
from panel.records.reads import Operation, operation, records_named, records_of_order

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/api/vps/sync", tags=["main site"])

DONE = {"create": "created", "update": "updated", "delete": "deleted"}


@router.post(
    "",
    summary="Post a sync call",
    status_code=202,
    responses=openapi.SYNC_RESPONSES,
    openapi_extra=openapi.SYNC_REQUEST,
)
async def post_sync(request: Request, edge: EdgeOf, key_label: MainSite) -> Response:
    """Journal one create, update or delete. A worker writes the record later, but the ``id`` in the answer is final."""
    return await answer_to_call(request, edge, key_label)


POST_SYNC = next(route for route in router.routes if isinstance(route, APIRoute) and route.endpoint is post_sync)


async def answer_to_call(request: Request, edge: Edge, key_label: str) -> Response:
    """The answer to a sync call of the main site. Raises what ``api.http.problems.on_problem`` answers."""
    body: Any = None
    try:
        key = idempotency_key(header_values(request.scope, b"idempotency-key"))
        body = await json_body(request, edge.settings.body_limit_bytes)
        call = received_call(request, edge, key_label, body, key)
    except ProblemError as problem:
        return problem_for(request, problem, audit_of(request, edge, key_label, [(body, problem)]))
    outcome = await edge.acceptor.accept(call)
    if isinstance(outcome, Accepted | Replayed):
        request.scope["operation_id"] = outcome.operation_id  # for the access log
    wait = wait_seconds(header_values(request.scope, b"prefer"), edge.settings.wait_cap_s)
    answer = await _answer(request, edge, call, outcome, wait or 0)
    if wait is not None and isinstance(outcome, Accepted) and outcome.created:  # there was something to wait for
        answer.headers["Preference-Applied"] = f"wait={wait}"
    return answer


@router.get("/operations/{operation_id:id}", summary="Follow an operation", responses=openapi.OPERATION_RESPONSES)
async def get_operation(
    edge: EdgeOf, _key_label: MainSite, operation_id: Annotated[int, Path(ge=1, le=MAX_ID)]
) -> Response:
    """State, attempts and reason of an operation, and its record as it is stored now (null: not written yet)."""
    current = await edge.read(operation(edge.reader, operation_id))
    if current is None:
        raise ProblemError(404, "operation_unknown", f"Operation {operation_id} does not exist")
    record = public_record(current.record) if current.record else None
    return JSONResponse({"status": "success", "operation": operation_view(current), "vps": record})


NO_NUL: dict[str, Any] = {"pattern": r"^[^\u0000]*$"}


@router.get("/records", summary="Find records by order or by user and name", responses=openapi.RECORDS_RESPONSES)
async def get_records(
    edge: EdgeOf,
    _key_label: MainSite,
    order_id: Annotated[str | None, Query(min_length=1, max_length=64, json_schema_extra=NO_NUL)] = None,
    user_id: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
    name: Annotated[str | None, Query(min_length=1, max_length=255, json_schema_extra=NO_NUL)] = None,
) -> Response:
    """Live records, newest first, accepted calls included. Give ``order_id``, or ``user_id`` and ``name``."""
    if "\x00" in f"{order_id}{name}":
        raise ProblemError(422, "invalid_parameter", "A parameter contains a NUL character")
    if order_id is not None and user_id is None and name is None:
        rows = await edge.read(records_of_order(edge.reader, order_id.strip()))
    elif order_id is None and user_id is not None and name is not None:
        rows = await edge.read(records_named(edge.reader, user_id, name.strip()))
    else:
        raise ProblemError(400, "missing_parameters", "Give order_id, or user_id and name")
    return JSONResponse({"status": "success", "data": [public_record(row) for row in rows]})


def operation_view(current: Operation) -> dict[str, Any]:
    """An operation as the main site sees it: times as in RFC 3339, ``why`` without personal data."""
    return {
        "id": current.id,
        "state": current.state,
        "url": operation_url(current.id),
        "action": current.action,
        "vps_id": current.vps_id,
        "attempts": current.attempts,
        "result": current.result,
        "why": current.reason or current.error,
        "accepted_at": current.accepted_at.isoformat(),
        "applied_at": current.applied_at.isoformat() if current.applied_at else None,
    }


async def _answer(request: Request, edge: Edge, call: Call, outcome: Outcome, wait_s: int) -> Response:
    if wait_s and isinstance(outcome, Accepted) and outcome.created:
        return await _waited_for(request, edge, call, outcome, wait_s)
    return _response(answer_of(outcome))


def _response(answer: Answer) -> Response:
    kind = ProblemResponse if answer.status_code >= 400 else JSONResponse
    return kind(answer.body, answer.status_code, headers=answer.headers)


async def _waited_for(request: Request, edge: Edge, call: Call, outcome: Accepted, wait_s: int) -> Response:
    """The final answer, if the call is finished in time. Otherwise 202."""
    current = await _wait_for(request, edge, outcome, wait_s)
    if current is None or not current.finished:
        return _response(answer_of(outcome))
    status_code, body = _final_answer(request, outcome, current)
    if call.idempotency_key is not None:
        await _remember(edge, call.idempotency_key, status_code, body)
    return _response(Answer(status_code, body, location_of(current.id)))


async def _wait_for(request: Request, edge: Edge, outcome: Accepted, wait_s: int) -> Operation | None:
    """The operation after waiting; None if the caller has gone or the database is away. The call is accepted already,
    so no fault here may turn the answer into an error."""
    finishing = asyncio.ensure_future(within(wait_s + 1.0, edge.operation_waiter.wait(outcome.operation_id, wait_s)))
    leaving = asyncio.ensure_future(request.receive())  # after the body, only a disconnect can come
    try:
        await asyncio.wait({finishing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return finishing.result() if finishing.done() else None
    except (DatabaseAwayError, TimeoutError) as error:
        log.warning("waiting_given_up", operation_id=outcome.operation_id, error=type(error).__name__)
        return None
    finally:
        finishing.cancel()
        leaving.cancel()


def _final_answer(request: Request, outcome: Accepted, current: Operation) -> tuple[int, dict[str, Any]]:
    record = public_record(current.record) if current.record else outcome.record
    vps = f"VPS {outcome.vps_id}"
    if current.state == "applied":
        message = f"{vps} was {DONE[current.action]}"
        return 201 if current.action == "create" else 200, success_body(message, record, current.id, current.state)
    why = current.reason or current.error or "no reason was noted"
    if current.state == "superseded":
        return 200, success_body(f"{vps} was left as it is: {why}", record, current.id, current.state)
    return 409, problem_body(
        409,
        f"operation_{current.state}",
        f"The {current.action} of {vps} was accepted but not applied: {why}",
        request.url.path,
        request.scope["request_id"],
        operation=operation_view(current),
    )


async def _remember(edge: Edge, key: str, status_code: int, body: dict[str, Any]) -> None:
    """Store the final answer for retries. If that fails, a retry gets the 202 with the operation to follow."""
    try:
        await within(edge.deadlines.remember_s, edge.acceptor.store_final_answer(key, status_code, body))
    except Exception as error:  # noqa: BLE001 - the operation is finished; no fault may turn its answer into an error
        log.warning("settled_answer_not_stored", error=type(error).__name__)
