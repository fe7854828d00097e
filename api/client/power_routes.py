"""Power actions of clients on their own VPS: ask for one, and follow it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, Response

from api.client import power_models
from api.client.power_requests import accept, require_own, require_power_actions
from api.dependencies import Client, Edge, EdgeOf
from api.http.bodies import json_body
from api.http.problems import ProblemError
from domain.power.actions import Action
from domain.record_columns import MAX_ID
from panel.power.requests import Wanted
from panel.power.views import client_actions, public_action

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
    await require_own(edge, user_id, vps_id, request.scope["began"])
    rows = await edge.read(client_actions(edge.clients, user_id, vps_id), request.scope["began"])
    return JSONResponse({"status": "success", "data": [public_action(row) for row in rows]})


@router.get("/actions/{action_id:id}", summary="Follow a power action", responses=power_models.ACTION_RESPONSES)
async def get_action(
    request: Request, edge: EdgeOf, user_id: Client, vps_id: VpsId, action_id: Annotated[int, Path(ge=1, le=MAX_ID)]
) -> Response:
    """How far it has come, and why."""
    await require_own(edge, user_id, vps_id, request.scope["began"])
    rows = await edge.read(client_actions(edge.clients, user_id, vps_id, action_id), request.scope["began"])
    if not rows:
        raise ProblemError(404, "action_unknown", f"Action {action_id} of VPS {vps_id} does not exist")
    return JSONResponse({"status": "success", "operation": public_action(rows[0])})


async def _accept(request: Request, edge: Edge, user_id: int, vps_id: int, action: Action) -> Response:
    began = request.scope["began"]
    await require_own(edge, user_id, vps_id, began)
    require_power_actions(edge)  # before the body is read: while they are off, every call is told so
    force, scope = await _force(request, action), request.scope
    wanted = Wanted(vps_id, user_id, action, force, scope["request_id"], scope["traceparent"])
    shown = await accept(edge, wanted)
    scope["action_id"] = shown["id"]  # for the access log
    body = {"status": "success", "message": f"VPS {vps_id}: {action} was accepted", "operation": shown}
    return JSONResponse(body, 202, headers={"Location": shown["url"]})


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
