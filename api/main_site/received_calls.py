"""A body becomes a call, and an outcome becomes an answer: the same for a single call and for an item of a batch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import Request
from starlette.background import BackgroundTask

from api.dependencies import Edge
from api.http.problems import ProblemError
from api.http.strict_json import canonical_hash
from api.main_site.sync_call import SyncCall, auditable_fields, parse_call
from panel.journal.calls import Accepted, Action, Call, Outcome, Refused, Replayed
from panel.records.public import operation_url, success_body


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller is told of its call, unless it is refused."""

    status_code: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def received_call(request: Request, edge: Edge, key_label: str, body: object, key: str | None) -> Call:
    """The call that a parsed body is. ``key``: its idempotency key. Raises ProblemError 400 or 422."""
    key = _without_secret(edge, key)
    valid = parse_call(body)
    return Call(
        action=valid.action,
        payload=valid.payload,
        api_key_label=key_label,
        vps_id=valid.vps_id,
        order_id=valid.order_id,
        request_id=request.scope["request_id"],
        idempotency_key=key,
        body_hash=_hash_of(valid),
        address=_address(request),
        traceparent=request.scope["traceparent"],
    )


def answer_of(outcome: Outcome) -> Answer:
    """The answer to a call that was journaled, had nothing left to do, or is a retry. Raises ProblemError for one that
    was refused."""
    match outcome:
        case Refused():
            headers = {"Retry-After": "1"} if outcome.status_code == 409 else None
            raise ProblemError(outcome.status_code, outcome.code, outcome.message, headers=headers, **outcome.extra)
        case Replayed():
            headers = {**location_of(outcome.operation_id), "Idempotent-Replayed": "true"}
            return Answer(outcome.status_code, outcome.answer, headers)
        case Accepted():
            body = success_body(outcome.message, outcome.record, outcome.operation_id, outcome.state)
            return Answer(202 if outcome.created else 200, body, location_of(outcome.operation_id))


def location_of(operation_id: int) -> dict[str, str]:
    """The header that leads to an operation."""
    return {"Location": operation_url(operation_id)}


def audit_of(
    request: Request, edge: Edge, key_label: str, refused: list[tuple[object, ProblemError]]
) -> BackgroundTask:
    """Audit what the edge refused (the body, or None, and the problem) after the answer was sent. The caller must not
    wait for it, because the audit may fail."""
    rows = [_refusal(request, key_label, body, problem) for body, problem in refused]

    async def note() -> None:
        await asyncio.gather(*(edge.acceptor.audit(call, why) for call, why in rows))

    return BackgroundTask(note)


def _refusal(request: Request, label: str, body: object, problem: ProblemError) -> tuple[Call, Refused]:
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
    return call, Refused(problem.status_code, problem.code, problem.message)


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
