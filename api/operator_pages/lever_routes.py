"""What runs leave alone: pauses, which operators make, and the quarantine, which ends when an operator releases it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, form_body, perform, whole
from api.operators.operator_models import PauseBody, ReleaseBody, ResumeBody
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from panel.operators.actions import pauses, quarantine
from panel.operators.pauses import pauses_in_force
from panel.operators.quarantine import list_quarantined

router = APIRouter(prefix="/ops", include_in_schema=False, route_class=OperatorPageRoute)

QUARANTINE = "/ops/quarantine"


@router.get("/pauses")
async def show_pauses(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """The pauses in force, and the form for a new one."""
    in_force = await in_transaction(edge, pauses_in_force)
    return await large_page(
        request,
        "operators/pauses.html",
        pauses=list(in_force.values()),
        targets=["all", "feed", *edge.settings.cluster_names],
        may_pause=operator.may(pauses.pause),
        may_resume=operator.may(pauses.resume),
    )


@router.post("/pauses/pause")
async def pause_target(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """Leave a source, a VPS or a customer alone."""
    fields = await action_form(request, operator, pauses.pause)
    given = {"target": fields.get("target", ""), "reason": fields.get("reason", "")}
    back = _from(fields)
    body = form_body(PauseBody, given | {"for_s": whole(fields.get("for_s", ""))}, back)
    length, clusters = timedelta(seconds=body.for_s), edge.settings.cluster_names
    return await perform(edge, operator, pauses.pause, back, body.target, clusters, body.reason, length)


@router.post("/pauses/resume")
async def resume_target(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """End a pause before its time."""
    fields = await action_form(request, operator, pauses.resume)
    back = _from(fields)
    body = form_body(ResumeBody, {"target": fields.get("target", "")}, back)
    return await perform(edge, operator, pauses.resume, back, body.target, edge.settings.cluster_names)


def _from(fields: Mapping[str, str]) -> str:
    """The page that the form was on: of a VPS, or of all pauses."""
    vps = whole(fields.get("vps", ""))
    return f"/ops/vps/{vps}" if isinstance(vps, int) else "/ops/pauses"


@router.get("/quarantine")
async def show_quarantine(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """The subjects at which runs keep failing."""
    found = await in_transaction(edge, list_quarantined)
    return await large_page(
        request, "operators/quarantine.html", quarantined=found, may_release=operator.may(quarantine.release)
    )


@router.post("/quarantine/release")
async def release_subject(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """Try a subject, or all, again at once."""
    fields = await action_form(request, operator, quarantine.release)
    body = form_body(ReleaseBody, {"subject": fields.get("subject", "")}, QUARANTINE)
    return await perform(edge, operator, quarantine.release, QUARANTINE, body.subject)
