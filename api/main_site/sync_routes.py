"""The API for the main site: post a sync call, follow its operation, find a record without knowing its id."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, cast

import structlog
from fastapi import APIRouter, Path, Query, Request
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response

from api import openapi
from api.dependencies import Edge, EdgeOf, MainSite
from api.http.bodies import json_body
from api.http.deadline import within
from api.http.problems import ProblemError, ProblemResponse, problem_body, problem_for
from api.http.request_headers import idempotency_key, wait_seconds
from api.http.strict_json import canonical_hash
from api.main_site.sync_call import SyncCall, auditable_fields, parse_call
from domain.record_columns import MAX_ID
from panel.journal.calls import (
    Accepted,
    Action,
    Call,
    DatabaseAwayError,
    Outcome,
    OutcomeUnknownError,
    Refused,
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
    body: Any = None
    try:
        key = _without_secret(edge, idempotency_key(request.headers.getlist("idempotency-key")))
        body = await json_body(request, edge.settings.body_limit_bytes)
        valid = parse_call(body)
    except ProblemError as problem:
        return problem_for(request, problem, _audit(request, edge, key_label, body, problem))
    call = Call(
        action=valid.action,
        payload=valid.payload,
        api_key_label=key_label,
        vps_id=valid.vps_id,
        order_id=valid.order_id,
        request_id=request.scope["request_id"],
        idempotency_key=key,
        body_hash=_hash_of(valid),
        address=_address(request),
    )
    outcome = await _accept(edge, call)
    if isinstance(outcome, Accepted | Replayed):
        request.scope["operation_id"] = outcome.operation_id  # for the access log
    wait = wait_seconds(request.headers.getlist("prefer"), edge.settings.wait_cap_s)
    answer = await _answer(request, edge, call, outcome, wait or 0)
    if wait is not None and not isinstance(outcome, Refused | Replayed):
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


def _audit(request: Request, edge: Edge, label: str, body: object, problem: ProblemError) -> BackgroundTask:
    """Audit the refusal after the answer was sent. The caller must not wait for it, because the audit may fail."""
    known = auditable_fields(body)
    call = Call(
        action=cast("Action", known.action),  # None if the body had none; the audit's column may be empty
        payload={"user_id": known.user_id},
        api_key_label=label,
        vps_id=known.vps_id,
        order_id=known.order_id,
        request_id=request.scope["request_id"],
        address=_address(request),
    )
    return BackgroundTask(edge.acceptor.audit, call, Refused(problem.status_code, problem.code, problem.message))


def _hash_of(call: SyncCall) -> str:
    """The hash of the fields that the panel takes from a body, after validation.

    The other fields change nothing, so a retry may differ in them. They may hold a root password, and a hash over it
    would let an attacker test guesses.
    """
    return canonical_hash([call.action, call.vps_id, call.payload])


def _without_secret(edge: Edge, key: str | None) -> str | None:
    """The caller's idempotency key. It is stored as it is, so it must not hold a secret. Raises ProblemError 400."""
    if key is not None and edge.redactor(key) != key:
        raise ProblemError(400, "invalid_idempotency_key", "Idempotency-Key must not contain an API key or a token")
    return key


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None


async def _accept(edge: Edge, call: Call) -> Outcome:
    try:
        async with asyncio.timeout(edge.deadlines.accept_s):
            return await edge.acceptor.accept(call)
    except TimeoutError:
        raise OutcomeUnknownError(None) from None


async def _answer(request: Request, edge: Edge, call: Call, outcome: Outcome, wait_s: int) -> Response:
    match outcome:
        case Refused():
            headers = {"Retry-After": "1"} if outcome.status_code == 409 else None
            raise ProblemError(outcome.status_code, outcome.code, outcome.message, headers=headers, **outcome.extra)
        case Replayed():
            kind = ProblemResponse if outcome.status_code >= 400 else JSONResponse
            answer = kind(outcome.answer, outcome.status_code, headers=_location(outcome.operation_id))
            answer.headers["Idempotent-Replayed"] = "true"
            return answer
        case Accepted():
            return await _accepted(request, edge, call, outcome, wait_s)


async def _accepted(request: Request, edge: Edge, call: Call, outcome: Accepted, wait_s: int) -> Response:
    """200 if nothing was left to do. If the call waits and is finished in time, the final answer. Otherwise 202."""
    current = await _wait_for(request, edge, outcome, wait_s) if outcome.created and wait_s else None
    if current is None or not current.finished:
        body = success_body(outcome.message, outcome.record, outcome.operation_id, outcome.state)
        return JSONResponse(body, 202 if outcome.created else 200, headers=_location(outcome.operation_id))
    status_code, body = _final_answer(request, outcome, current)
    if call.idempotency_key is not None:
        await _remember(edge, call.idempotency_key, status_code, body)
    kind = ProblemResponse if status_code >= 400 else JSONResponse
    return kind(body, status_code, headers=_location(current.id))


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


def _location(operation_id: int) -> dict[str, str]:
    return {"Location": operation_url(operation_id)}
