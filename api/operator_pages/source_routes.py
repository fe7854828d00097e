"""The sources: which are believed, which are not and why, and the word that what one of them lost is right."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, form_body, perform
from api.operators.operator_models import AcknowledgeBody
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from panel.operators.actions import sources
from panel.runs.source_states import list_sources

router = APIRouter(prefix="/ops/sources", include_in_schema=False, route_class=OperatorPageRoute)

HERE = "/ops/sources"


@router.get("")
async def show_sources(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """Each source with its age, and the cause and the remedy if it is not believed."""
    listed = await in_transaction(edge, list_sources)
    return await large_page(
        request, "operators/sources.html", sources=listed, may_acknowledge=operator.may(sources.acknowledge)
    )


@router.post("/acknowledge")
async def acknowledge_source(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """Confirm that a source which lost much at once is right."""
    fields = await action_form(request, operator, sources.acknowledge)
    body = form_body(AcknowledgeBody, {"source": fields.get("source", "")}, HERE)
    return await perform(edge, operator, sources.acknowledge, HERE, body.source)
