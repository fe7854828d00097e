"""The page that operators open first, and "reconcile now"."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, perform
from api.operators.operator_models import ReconcileBody
from api.operators.transactions import in_transaction
from api.operators.validation import validated
from api.pages.rendering import large_page
from panel.operators.actions import runs
from panel.operators.pages.overview import overview

router = APIRouter(prefix="/ops", include_in_schema=False, route_class=OperatorPageRoute)


@router.get("")
async def show_overview(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """In sync or not, what to look at first, sources, last runs, what is left alone."""
    now = await in_transaction(edge, overview)
    may_run = operator.may(runs.ask_for_run)
    return await large_page(
        request, "operators/overview.html", now=now, may_run=may_run, flower_url=edge.settings.flower_url
    )


@router.post("/reconcile")
async def reconcile_now(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """Ask the workers for a run of everything, or of one VPS."""
    fields = await action_form(request, operator, runs.ask_for_run)
    vps = fields.get("vps", "")
    body = validated(ReconcileBody, {"vps": int(vps)} if vps.isdecimal() else {})
    back = f"/ops/vps/{body.vps}" if body.vps is not None else "/ops"
    return await perform(edge, operator, runs.ask_for_run, back, "".join(body.named))
