"""The routes of operators' actions. Each parses the request, calls the action, and answers with its outcome."""

# ruff: noqa: D103 - an action's own docstring describes its route

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel
from sqlalchemy import Connection
from starlette.responses import Response

from api import openapi
from api.dependencies import Edge, EdgeOf, Operator
from api.http.bodies import json_body
from api.operators.adoption_models import AdoptBody, AdoptionAnswer, WithdrawBody
from api.operators.held_models import DecisionAnswer
from api.operators.operator_models import (
    AcknowledgeBody,
    DiscardBody,
    DoneAnswer,
    FindingAnswer,
    IgnoreBody,
    PauseBody,
    ReconcileBody,
    ReleaseBody,
    RestoreBody,
    ResumeBody,
    SnoozeBody,
)
from api.operators.repair_policy_models import WhatIfAnswer, WhatIfBody
from api.operators.transactions import data_response, in_transaction, message_response
from api.operators.validation import validated
from api.operators.webhook_models import ReplayBody
from domain.record_columns import MAX_ID
from panel.adoptions.known import Reading
from panel.operators.actions import adoptions, findings, holds, journal, pauses, quarantine, runs, sources, webhooks
from panel.operators.actions.action import Action, Done
from panel.operators.audit import Actor
from panel.operators.findings import FindingView, finding_as_json

router = APIRouter(prefix="/api/ops", tags=["operators"])

P = ParamSpec("P")
B = TypeVar("B", bound=BaseModel)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

WRITES = openapi.problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503)

VpsId = Annotated[int, Path(ge=1, le=MAX_ID)]
FindingId = Annotated[int, Path(ge=1, le=MAX_ID)]
AdoptionId = Annotated[int, Path(ge=1, le=MAX_ID)]
OperationId = Annotated[int, Path(ge=1, le=MAX_ID)]
HeldHash = Annotated[
    str,
    Path(
        min_length=1,
        max_length=64,
        description="The first 8 characters of the hash, or more",
        json_schema_extra={"minLength": 8, "pattern": "^[0-9a-f]{8,64}$"},
    ),
]


def _route(
    action: Action[..., Any], answer: type[BaseModel], body: type[BaseModel] | None = None
) -> Callable[[Endpoint], Endpoint]:
    """Register the route of an action, with the action's path and description. ``body``: the request's body."""
    if action.path is None:
        raise ValueError(f"{action.name} has no path")
    return router.post(
        action.path,
        status_code=_status_of(action),
        description=action.explained,
        responses={_status_of(action): {"model": answer}, **WRITES},
        openapi_extra=_body_schema(body) if body is not None else None,
    )


def _status_of(action: Action[..., Any]) -> int:
    return 202 if action.later else 200


def _body_schema(body: type[BaseModel]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@_route(holds.approve, DecisionAnswer)
async def approve(edge: EdgeOf, by: Operator, held_hash: HeldHash) -> Response:
    return await _perform(edge, by, holds.approve, held_hash, edge.settings.second_approval_above)


@_route(holds.reject, DecisionAnswer)
async def reject(edge: EdgeOf, by: Operator, held_hash: HeldHash) -> Response:
    return await _perform(edge, by, holds.reject, held_hash, edge.settings.second_approval_above)


@_route(findings.acknowledge, FindingAnswer)
async def acknowledge(edge: EdgeOf, by: Operator, finding_id: FindingId) -> Response:
    return await _perform(edge, by, findings.acknowledge, finding_id)


@_route(findings.snooze, FindingAnswer, SnoozeBody)
async def snooze(request: Request, edge: EdgeOf, by: Operator, finding_id: FindingId) -> Response:
    body = await _body(request, edge, SnoozeBody)
    return await _perform(edge, by, findings.snooze, finding_id, timedelta(seconds=body.for_s))


@_route(findings.ignore, FindingAnswer, IgnoreBody)
async def ignore(request: Request, edge: EdgeOf, by: Operator, finding_id: FindingId) -> Response:
    body = await _body(request, edge, IgnoreBody)
    return await _perform(edge, by, findings.ignore, finding_id, body.reason)


@_route(findings.unignore, FindingAnswer)
async def unignore(edge: EdgeOf, by: Operator, finding_id: FindingId) -> Response:
    return await _perform(edge, by, findings.unignore, finding_id)


@router.post(
    "/findings/{finding_id:id}/heed",
    description=findings.unignore.explained,
    responses={200: {"model": FindingAnswer}, **WRITES},
    deprecated=True,  # the former name of ``unignore``
)
async def heed(edge: EdgeOf, by: Operator, finding_id: FindingId) -> Response:
    return await _perform(edge, by, findings.unignore, finding_id)


@_route(adoptions.adopt, AdoptionAnswer, AdoptBody)
async def adopt_guest(request: Request, edge: EdgeOf, by: Operator) -> Response:
    body = await _body(request, edge, AdoptBody)
    reading = Reading.of(edge.settings)
    return await _perform(
        edge, by, adoptions.adopt, body.seen, body.reason, reading, order_id=body.order_id, vps_id=body.vps
    )


@_route(adoptions.withdraw, AdoptionAnswer, WithdrawBody)
async def withdraw_adoption(request: Request, edge: EdgeOf, by: Operator, adoption_id: AdoptionId) -> Response:
    body = await _body(request, edge, WithdrawBody)
    return await _perform(edge, by, adoptions.withdraw, adoption_id, body.reason)


@_route(journal.restore, DoneAnswer, RestoreBody)
async def restore(request: Request, edge: EdgeOf, by: Operator, vps_id: VpsId) -> Response:
    body = await _body(request, edge, RestoreBody)
    return await _perform(edge, by, journal.restore, vps_id, body.reason)


@_route(pauses.pause, DoneAnswer, PauseBody)
async def pause_target(request: Request, edge: EdgeOf, by: Operator) -> Response:
    body = await _body(request, edge, PauseBody)
    length = timedelta(seconds=body.for_s)
    return await _perform(edge, by, pauses.pause, body.target, edge.settings.cluster_names, body.reason, length)


@_route(pauses.resume, DoneAnswer, ResumeBody)
async def resume_target(request: Request, edge: EdgeOf, by: Operator) -> Response:
    body = await _body(request, edge, ResumeBody)
    return await _perform(edge, by, pauses.resume, body.target, edge.settings.cluster_names)


@_route(quarantine.release, DoneAnswer, ReleaseBody)
async def release_subject(request: Request, edge: EdgeOf, by: Operator) -> Response:
    body = await _body(request, edge, ReleaseBody)
    return await _perform(edge, by, quarantine.release, body.subject)


@_route(journal.requeue, DoneAnswer)
async def requeue_dead(edge: EdgeOf, by: Operator, operation_id: OperationId) -> Response:
    return await _perform(edge, by, journal.requeue, operation_id)


@_route(journal.discard, DoneAnswer, DiscardBody)
async def discard_dead(request: Request, edge: EdgeOf, by: Operator, operation_id: OperationId) -> Response:
    body = await _body(request, edge, DiscardBody)
    return await _perform(edge, by, journal.discard, operation_id, body.reason)


@_route(sources.acknowledge, DoneAnswer, AcknowledgeBody)
async def acknowledge_what_was_seen(request: Request, edge: EdgeOf, by: Operator) -> Response:
    body = await _body(request, edge, AcknowledgeBody)
    return await _perform(edge, by, sources.acknowledge, body.source)


@_route(runs.ask_for_run, DoneAnswer, ReconcileBody)
async def reconcile(request: Request, edge: EdgeOf, by: Operator) -> Response:
    body = await _body(request, edge, ReconcileBody)
    return await _perform(edge, by, runs.ask_for_run, "".join(body.named))


@_route(runs.ask_what_if, WhatIfAnswer, WhatIfBody)
async def ask_what_if(request: Request, edge: EdgeOf, by: Operator) -> Response:
    body = await _body(request, edge, WhatIfBody)
    return await _perform(edge, by, runs.ask_what_if, body.policy)


@_route(webhooks.enable, DoneAnswer)
async def enable_webhook(edge: EdgeOf, by: Operator) -> Response:
    return await _perform(edge, by, webhooks.enable)


@_route(webhooks.replay, DoneAnswer, ReplayBody)
async def replay_events(request: Request, edge: EdgeOf, by: Operator) -> Response:
    body = await _body(request, edge, ReplayBody)
    return await _perform(edge, by, webhooks.replay, body.wanted)


async def _perform(edge: Edge, by: Actor, action: Action[P, Any], *args: P.args, **kwargs: P.kwargs) -> Response:
    """Do the action and answer with its result, or with its sentence if it has none.

    Raises what ``in_transaction`` raises, and OperatorError.
    """

    def work(connection: Connection) -> Done[Any]:
        return action(connection, by, *args, **kwargs)

    done = await in_transaction(edge, work)
    if done.result is None:
        return message_response(done.message, _status_of(action))
    return await data_response(done.result, _shown, _status_of(action))


def _shown(result: Any) -> dict[str, Any]:  # noqa: ANN401 - a dataclass
    if isinstance(result, FindingView):
        return finding_as_json(result)
    return {field.name: getattr(result, field.name) for field in fields(result)}


async def _body(request: Request, edge: Edge, model: type[B]) -> B:
    """The request's body, validated by the model. Raises ProblemError, whose message repeats no value."""
    return validated(model, await json_body(request, edge.settings.body_limit_bytes))
