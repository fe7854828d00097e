"""Dead calls: accepted and given up. An operator sends each again or discards it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, form_body, perform
from api.operators.operator_models import DiscardBody
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from domain.record_columns import MAX_ID
from panel.journal.dead_letters import DeadView, list_dead
from panel.operators.actions import journal

router = APIRouter(prefix="/ops/dead", include_in_schema=False, route_class=OperatorPageRoute)

HERE = "/ops/dead"

LATEST = 200

OperationId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("")
async def show_dead_calls(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """The dead calls, newest first."""

    def read(connection: Connection) -> list[DeadView]:
        return list_dead(connection, limit=LATEST)

    dead = await in_transaction(edge, read)
    return await large_page(
        request, "operators/dead.html", dead=dead, latest=LATEST, may_decide=operator.may(journal.requeue)
    )


@router.post("/{operation_id:id}/requeue")
async def requeue_call(request: Request, edge: EdgeOf, operator: Operator, operation_id: OperationId) -> Response:
    """Journal it again, as if it had come now."""
    await action_form(request, operator, journal.requeue)
    return await perform(edge, operator, journal.requeue, HERE, operation_id)


@router.post("/{operation_id:id}/discard")
async def discard_call(request: Request, edge: EdgeOf, operator: Operator, operation_id: OperationId) -> Response:
    """Leave it undone."""
    fields = await action_form(request, operator, journal.discard)
    body = form_body(DiscardBody, {"reason": fields.get("reason", "")}, HERE)
    return await perform(edge, operator, journal.discard, HERE, operation_id, body.reason)
