"""Many sync calls in one request: each is answered as it would be by itself."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from api.dependencies import Edge, EdgeOf, MainSite
from api.http.bodies import json_bytes, parsed
from api.http.problems import SERVER_FAULT, ProblemError, as_problem, problem_content, problem_for
from api.main_site import batch_models
from api.main_site.call_batch import MAX_BYTES, item_result, items_of, key_of
from api.main_site.received_calls import answer_of, audit_of, received_call
from panel.journal.calls import Call, DatabaseAwayError, NotTriedError, Outcome, OutcomeUnknownError, OverloadedError
from panel.monitoring.instruments import items_answered

ITEMS_A_TURN = 50
"""Items that are validated in one turn of the event loop: a few milliseconds."""

router = APIRouter(prefix="/api/vps/sync", tags=["main site"])


@router.post(
    "/batch", summary="Post many sync calls", responses=batch_models.RESPONSES, openapi_extra=batch_models.REQUEST
)
async def post_batch(request: Request, edge: EdgeOf, key_label: MainSite) -> Response:
    """Journal up to 1,000 calls, each after those before it, and answer them one by one in their order.

    A refused item spoils no other. The answer is 200 whatever became of the items. ``Prefer: wait`` has no effect.
    """
    body: Any = None
    try:
        _require_no_common_key(request)
        raw = await json_bytes(request, MAX_BYTES)
        began = time.perf_counter()
        if edge.batches.locked():
            raise OverloadedError("too many batches are under way")
        async with edge.batches:
            body = await asyncio.to_thread(parsed, raw)
            return await _answered(request, edge, key_label, items_of(body), began)
    except ProblemError as problem:
        return problem_for(request, problem, audit_of(request, edge, key_label, [(body, problem)]))


async def _answered(request: Request, edge: Edge, key_label: str, items: list[object], began: float) -> Response:
    received = []
    for index, item in enumerate(items):
        if index % ITEMS_A_TURN == 0:
            await asyncio.sleep(0)  # single calls go on meanwhile
        received.append(_received(request, edge, key_label, item))
    calls = [one for one in received if isinstance(one, Call)]
    outcomes = iter(await edge.acceptor.accept_in_order(calls, time.perf_counter() - began))
    results = [_result(request, next(outcomes) if isinstance(one, Call) else one) for one in received]
    refusals = Counter((result["http_status"], result["code"]) for result in results if result["http_status"] >= 300)
    for (status, code), times in refusals.items():
        edge.access.note(request.scope, status, code, times)
    items_answered(result["http_status"] for result in results)
    accepted = sum(result["http_status"] < 300 for result in results)
    refused = [(item, one) for item, one in zip(items, received, strict=True) if isinstance(one, ProblemError)]
    return JSONResponse(
        {"status": "success", "items": results, "accepted": accepted, "refused": len(results) - accepted},
        background=audit_of(request, edge, key_label, refused) if refused else None,
    )


def _require_no_common_key(request: Request) -> None:
    """Refuse a key in the header. Its caller would believe that the batch cannot be done twice."""
    if request.headers.getlist("idempotency-key"):
        message = "A batch has no Idempotency-Key: give each item an idempotency_key of its own"
        raise ProblemError(400, "invalid_idempotency_key", message)


def _received(request: Request, edge: Edge, key_label: str, item: object) -> Call | ProblemError:
    try:
        return received_call(request, edge, key_label, item, key_of(item))
    except ProblemError as problem:
        return problem


def _result(request: Request, outcome: Outcome | Exception) -> dict[str, Any]:
    try:
        if isinstance(outcome, Exception):
            raise _problem_of(outcome)
        answer = answer_of(outcome)
    except ProblemError as problem:
        return item_result(problem.status_code, problem_content(request, problem), problem.headers)
    return item_result(answer.status_code, answer.body, answer.headers)


def _problem_of(error: Exception) -> ProblemError:
    """The problem of one item. A bug that only this item met is its own."""
    if isinstance(error, ProblemError | DatabaseAwayError | NotTriedError | OutcomeUnknownError):
        return as_problem(error)
    return ProblemError(500, "internal_error", SERVER_FAULT)
