"""Find a VPS, and see one: its order, its record and its guest side by side, what stands in the way, its history."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from sqlalchemy import Connection, Row
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.http.problems import ProblemError
from api.operator_pages.held_routes import PageNumber
from api.operator_pages.pages_of import neighbours
from api.operator_pages.signed_in_operator import (
    Operator,
    OperatorPageRoute,
    action_form,
    form_body,
    page_form,
    perform,
)
from api.operators.operator_models import RestoreBody
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page, redirect
from api.pages.shown_power import wish_of
from domain.record_columns import MAX_ID
from panel.operators.actions import journal, pauses, runs
from panel.operators.pages.vps_view import VpsView, vps_view
from panel.operators.reports.looks import configured
from panel.records.history import POWER_SHOWN, History, vps_history
from panel.records.record_search import changed_lately, find_records
from panel.records.told import changed, changes, clock, identity_told

router = APIRouter(prefix="/ops/vps", include_in_schema=False, route_class=OperatorPageRoute)

FOUND = 50
"""How many records a search shows."""
CHANGES = 30
"""Changes of a VPS on a page."""
LATELY = 10
"""How many of the records that changed last the empty search shows."""
LONGEST = 255

VpsId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("")
async def search_form(request: Request, edge: EdgeOf, _operator: Operator) -> Response:
    """The form to find a VPS, and those that changed last."""
    lately = await in_transaction(edge, lambda connection: changed_lately(connection, limit=LATELY))
    return await large_page(request, "operators/vps_search.html", searched="", found=lately, more=False)


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
    of, above = configured(edge.settings), edge.settings.second_approval_above

    def read(connection: Connection) -> tuple[VpsView, History]:
        history = vps_history(connection, vps_id, limit=CHANGES, offset=(number - 1) * CHANGES)
        view = vps_view(
            connection, vps_id, proof=of.proof, names=of.names, shared_ids=of.shared_ids, second_above=above
        )
        return view, history

    view, history = await in_transaction(edge, read)
    return await large_page(
        request,
        "operators/vps.html",
        view=view,
        history=history,
        identity=identity_told(history),
        proof=of.proof,
        changed=changed,
        changes=changes,
        last_change=_last_change(history) if number == 1 else None,
        power_shown=POWER_SHOWN,
        clock=clock,
        wish_of=wish_of,
        policy={name: handling for name, handling in edge.settings.repair_policy.items() if handling != "repair"},
        may={
            "run": operator.may(runs.ask_for_run),
            "pause": operator.may(pauses.pause),
            "resume": operator.may(pauses.resume),
            "restore": operator.may(journal.restore),
        },
        **neighbours(f"/ops/vps/{vps_id}", {}, number, more=history.older > 0),
    )


def _last_change(history: History) -> Row[Any] | None:
    """The latest of these operations that wrote something."""
    written = (one for one in reversed(history.operations) if one.state == "applied" and changes(one))
    return next(written, None)


@router.post("/{vps_id:id}/restore")
async def restore_vps(request: Request, edge: EdgeOf, operator: Operator, vps_id: VpsId) -> Response:
    """Bring a deleted record back."""
    fields = await action_form(request, operator, journal.restore)
    back = "/ops/deleted" if "list" in fields else f"/ops/vps/{vps_id}"
    body = form_body(RestoreBody, {"reason": fields.get("reason", "")}, back)
    return await perform(edge, operator, journal.restore, back, vps_id, body.reason)
