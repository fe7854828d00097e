"""The page that operators open first, and "reconcile now"."""

from __future__ import annotations

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, form_body, perform, whole
from api.operators.operator_models import ReconcileBody
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from panel.operators.actions import runs
from panel.operators.pages.overview import Overview, overview
from panel.operators.pauses import VPS, PauseView
from panel.operators.reports.drift import differing_among
from panel.operators.reports.drift_fates import paused_vps
from panel.operators.reports.looks import configured

router = APIRouter(prefix="/ops", include_in_schema=False, route_class=OperatorPageRoute)

PAUSED_SHOWN = 20
"""How many paused VPS the overview compares with their order and guest."""


@router.get("")
async def show_overview(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """In sync or not, what to look at first, sources, last runs, what is left alone."""
    of = configured(edge.settings)

    def read(connection: Connection) -> tuple[Overview, list[PauseView]]:
        now = overview(connection, edge.settings.mend_within_s)
        paused = paused_vps(pause.target for pause in now.pauses)[:PAUSED_SHOWN]
        differing = {f"{VPS}{vps_id}" for vps_id in differing_among(connection, of, paused)}
        return now, [pause for pause in now.pauses if pause.target in differing]

    now, paused = await in_transaction(edge, read)
    may_run = operator.may(runs.ask_for_run)
    return await large_page(
        request,
        "operators/overview.html",
        now=now,
        paused_differing=paused,
        may_run=may_run,
        flower_url=edge.settings.flower_url,
    )


@router.post("/reconcile")
async def reconcile_now(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """Ask the workers for a run of everything, or of one VPS."""
    fields = await action_form(request, operator, runs.ask_for_run)
    vps = fields.get("vps", "")
    body = form_body(ReconcileBody, {"vps": whole(vps)} if vps else {}, "/ops")
    back = f"/ops/vps/{body.vps}" if body.vps is not None else "/ops"
    return await perform(edge, operator, runs.ask_for_run, back, "".join(body.named))
