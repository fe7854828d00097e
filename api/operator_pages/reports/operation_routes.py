"""The journal: every accepted call, every repair, and what operators did to records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection, Row
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.filters import PER_PAGE
from api.operator_pages.held_routes import PageNumber
from api.operator_pages.pages_of import neighbours
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from domain.changes import OPERATION_STATES
from panel.records.operations import list_operations

router = APIRouter(prefix="/ops/operations", include_in_schema=False, route_class=OperatorPageRoute)

OfState = Annotated[str, Query(pattern=f"^({'|'.join(OPERATION_STATES)})?$")]
OfVps = Annotated[str, Query(pattern="^([1-9][0-9]{0,17})?$")]


@router.get("")
async def show_operations(
    request: Request, edge: EdgeOf, _operator: Operator, state: OfState = "", vps: OfVps = "", number: PageNumber = 1
) -> Response:
    """The operations of every state or of one, of every VPS or of one, newest first."""

    def read(connection: Connection) -> Sequence[Row[Any]]:
        first, one = (number - 1) * PER_PAGE, int(vps) if vps else None
        return list_operations(connection, state=state or None, vps_id=one, limit=PER_PAGE + 1, offset=first)

    listed = await in_transaction(edge, read)
    return await large_page(
        request,
        "operators/reports/operations.html",
        operations=listed[:PER_PAGE],
        states=OPERATION_STATES,
        state=state,
        vps=vps,
        **neighbours("/ops/operations", {"state": state, "vps": vps}, number, more=len(listed) > PER_PAGE),
    )
