"""Find a VPS, and see one: its order, its record and its guest side by side, what stands in the way, its history."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.http.problems import ProblemError
from api.operator_pages.held_routes import PageNumber
from api.operator_pages.pages_of import neighbours
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, page_form, perform
from api.operators.operator_models import RestoreBody
from api.operators.transactions import in_transaction
from api.operators.validation import validated
from api.pages.rendering import large_page, redirect
from domain.record_columns import MAX_ID
from panel.observations.proof import Proof
from panel.operators.actions import journal, pauses, runs
from panel.operators.pages.vps_view import VpsView, vps_view
from panel.records.history import History, vps_history
from panel.records.record_search import find_records
from panel.records.told import changed, identity_told

router = APIRouter(prefix="/ops/vps", include_in_schema=False, route_class=OperatorPageRoute)

FOUND = 50
"""How many records a search shows."""
CHANGES = 30
"""Changes of a VPS on a page."""
LONGEST = 255

VpsId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("")
async def search_form(request: Request, _operator: Operator) -> Response:
    """The form to find a VPS."""
    return await large_page(request, "operators/vps_search.html", searched="", found=[], more=False)


@router.post("")
async def search(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """What was found. A form sends the search, so that no name or address of a customer is part of a web address."""
    wanted = (await page_form(request, operator)).get("q", "")
    if not wanted:
        return redirect("/ops/vps")
    if len(wanted) > LONGEST:
        raise ProblemError(422, "invalid_field", f"q: at most {LONGEST} characters", field="q")
    found = await in_transaction(edge, lambda connection: find_records(connection, wanted, limit=FOUND + 1))
    if len(found) == 1:
        return redirect(f"/ops/vps/{found[0].id}")
    more = len(found) > FOUND
    return await large_page(request, "operators/vps_search.html", searched=wanted, found=found[:FOUND], more=more)


@router.get("/{vps_id:id}")
async def show_vps(
    request: Request, edge: EdgeOf, operator: Operator, vps_id: VpsId, number: PageNumber = 1
) -> Response:
    """One VPS, deleted ones included, with its latest changes."""
    settings = edge.settings
    proof = Proof(settings.absence_proof_n, timedelta(seconds=settings.absence_proof_t_s))
    names, shared_ids = settings.main_site_feed == "orders", settings.user_id_space == "shared"

    def read(connection: Connection) -> tuple[VpsView, History]:
        history = vps_history(connection, vps_id, limit=CHANGES, offset=(number - 1) * CHANGES)
        return vps_view(connection, vps_id, proof=proof, names=names, shared_ids=shared_ids), history

    view, history = await in_transaction(edge, read)
    return await large_page(
        request,
        "operators/vps.html",
        view=view,
        history=history,
        identity=identity_told(history),
        proof=proof,
        changed=changed,
        policy={name: handling for name, handling in settings.repair_policy.items() if handling != "repair"},
        may={
            "run": operator.may(runs.ask_for_run),
            "pause": operator.may(pauses.pause),
            "resume": operator.may(pauses.resume),
            "restore": operator.may(journal.restore),
        },
        **neighbours(f"/ops/vps/{vps_id}", {}, number, more=history.older > 0),
    )


@router.post("/{vps_id:id}/restore")
async def restore_vps(request: Request, edge: EdgeOf, operator: Operator, vps_id: VpsId) -> Response:
    """Bring a deleted record back."""
    fields = await action_form(request, operator, journal.restore)
    body = validated(RestoreBody, {"reason": fields.get("reason", "")})
    return await perform(edge, operator, journal.restore, f"/ops/vps/{vps_id}", vps_id, body.reason)
