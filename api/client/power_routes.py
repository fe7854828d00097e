"""Power actions of clients on their own VPS: ask for one, and follow it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from sqlalchemy import Connection, Row
from starlette.responses import JSONResponse, Response

from api.client import power_models
from api.dependencies import Client, Edge, EdgeOf
from api.http.bodies import json_body
from api.http.problems import ProblemError
from api.operators.transactions import in_transaction
from domain.power.actions import Action
from domain.power.permission import Refusal
from domain.record_columns import MAX_ID
from panel.journal.calls import DatabaseAwayError
from panel.power.facts import PowerRules
from panel.power.requests import Limited, Wanted, ask, open_action
from panel.power.views import client_actions, public_action
from panel.records.reads import client_record

router = APIRouter(prefix="/api/vps/{vps_id:id}", tags=["client"])

VpsId = Annotated[int, Path(ge=1, le=MAX_ID)]

BODY_BYTES = 1024
"""The largest body of a power action."""


@router.post("/start", summary="Start a VPS", status_code=202, responses=power_models.POWER_RESPONSES)
async def start(request: Request, edge: EdgeOf, user_id: Client, vps_id: VpsId) -> Response:
    """Switch it on."""
    return await _accept(request, edge, user_id, vps_id, Action.START)


@router.post(
    "/stop",
    summary="Stop a VPS",
    status_code=202,
    responses=power_models.POWER_RESPONSES,
    openapi_extra=power_models.STOP_REQUEST,
)
async def stop(request: Request, edge: EdgeOf, user_id: Client, vps_id: VpsId) -> Response:
    """Ask its system to shut down, for 60 seconds. ``{"force": true}`` cuts the power instead."""
    return await _accept(request, edge, user_id, vps_id, Action.STOP)


@router.post("/reboot", summary="Reboot a VPS", status_code=202, responses=power_models.POWER_RESPONSES)
async def reboot(request: Request, edge: EdgeOf, user_id: Client, vps_id: VpsId) -> Response:
    """Ask its system to restart."""
    return await _accept(request, edge, user_id, vps_id, Action.REBOOT)


@router.post("/restart", summary="Reset a VPS", status_code=202, responses=power_models.POWER_RESPONSES)
async def restart(request: Request, edge: EdgeOf, user_id: Client, vps_id: VpsId) -> Response:
    """Reset it hard, without asking its system. A container is stopped and started."""
    return await _accept(request, edge, user_id, vps_id, Action.RESTART)


@router.get("/actions", summary="The latest power actions of a VPS", responses=power_models.ACTIONS_RESPONSES)
async def get_actions(request: Request, edge: EdgeOf, user_id: Client, vps_id: VpsId) -> Response:
    """The caller's own, newest first."""
    await _require_own(request, edge, user_id, vps_id)
    rows = await edge.read(client_actions(edge.reader, user_id, vps_id), request.scope["began"])
    return JSONResponse({"status": "success", "data": [public_action(row) for row in rows]})


@router.get("/actions/{action_id:id}", summary="Follow a power action", responses=power_models.ACTION_RESPONSES)
async def get_action(
    request: Request, edge: EdgeOf, user_id: Client, vps_id: VpsId, action_id: Annotated[int, Path(ge=1, le=MAX_ID)]
) -> Response:
    """How far it has come, and why."""
    await _require_own(request, edge, user_id, vps_id)
    rows = await edge.read(client_actions(edge.reader, user_id, vps_id, action_id), request.scope["began"])
    if not rows:
        raise ProblemError(404, "action_unknown", f"Action {action_id} of VPS {vps_id} does not exist")
    return JSONResponse({"status": "success", "operation": public_action(rows[0])})


async def _accept(request: Request, edge: Edge, user_id: int, vps_id: int, action: Action) -> Response:
    await _require_own(request, edge, user_id, vps_id)
    if not edge.settings.power_actions:
        message = "This panel switches no VPS on or off: power actions are not enabled"
        raise ProblemError(403, "power_actions_off", message)
    wanted = Wanted(vps_id, user_id, action, await _force(request, action), request.scope["request_id"])
    rules = PowerRules.of(edge.settings)

    def work(connection: Connection) -> tuple[Row[Any] | Refusal | Limited, Row[Any] | None]:
        outcome = ask(connection, wanted, rules)
        refused = isinstance(outcome, Refusal) and outcome.code == "power_action_in_progress"
        return outcome, open_action(connection, vps_id, user_id) if refused else None

    try:
        outcome, going_on = await in_transaction(edge, work)
    except DatabaseAwayError:
        # The commit may have been lost, so "nothing was accepted" would be a guess.
        message = (
            f"It is not known whether the action was accepted; look at /api/vps/{vps_id}/actions before you repeat"
        )
        raise ProblemError(503, "outcome_unknown", message, headers={"Retry-After": "5"}) from None
    if isinstance(outcome, Limited):
        message = f"More than {rules.an_hour} power actions in one hour; try again later"
        headers = {"Retry-After": str(outcome.retry_after_s)}
        raise ProblemError(429, "too_many_power_actions", message, headers=headers)
    if isinstance(outcome, Refusal):
        raise _problem(outcome, going_on)
    shown = public_action(dict(outcome._mapping))
    body = {"status": "success", "message": f"VPS {vps_id}: {action} was accepted", "operation": shown}
    return JSONResponse(body, 202, headers={"Location": shown["url"]})


async def _require_own(request: Request, edge: Edge, user_id: int, vps_id: int) -> None:
    """Raise ProblemError 404 unless the VPS is the caller's. It is read in the client's role, for which other
    customers' records do not exist, whatever the statement says."""
    if await edge.read(client_record(edge.reader, user_id, vps_id), request.scope["began"]) is None:
        raise ProblemError(404, "vps_unknown", f"VPS {vps_id} does not exist")


def _problem(refusal: Refusal, going_on: Row[Any] | None) -> ProblemError:
    headers = {"Retry-After": "10"} if refusal.passing or refusal.status == 503 else None
    extra = {} if going_on is None else {"operation": public_action(dict(going_on._mapping))}
    return ProblemError(refusal.status, refusal.code, refusal.message, headers=headers, **extra)


async def _force(request: Request, action: Action) -> bool:
    """What the body says, if there is one. Raises ProblemError."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return False
    body = await json_body(request, BODY_BYTES)
    if not isinstance(body, dict):
        raise ProblemError(422, "invalid_field", "The body must be a JSON object")
    force = body.get("force", False)
    if not isinstance(force, bool):
        raise ProblemError(422, "invalid_field", "force must be true or false", field="force")
    if force and action is not Action.STOP:
        message = "force is for stop only; restart resets without asking the system"
        raise ProblemError(422, "invalid_field", message, field="force")
    return force
