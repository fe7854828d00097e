"""The deleted VPS that can still be restored, with the reason of each delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.filters import PER_PAGE, OfUser, user_id
from api.operator_pages.held_routes import PageNumber
from api.operator_pages.pages_of import neighbours
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute
from api.operators.reports.report_routes import day_of
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from panel.operators.actions import journal
from panel.operators.reports.deleted import DeletedFilter, DeletedVps, list_deleted

router = APIRouter(prefix="/ops/deleted", include_in_schema=False, route_class=OperatorPageRoute)

OfDay = Annotated[str, Query(pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?$")]


@router.get("")
async def show_deleted(
    request: Request, edge: EdgeOf, operator: Operator, user: OfUser = "", day: OfDay = "", number: PageNumber = 1
) -> Response:
    """The deleted ones of the last 7 days, the latest first, each with the form that brings it back."""
    wanted = DeletedFilter(user_id(user), day_of(day))

    def read(connection: Connection) -> Sequence[DeletedVps]:
        return list_deleted(connection, wanted, limit=PER_PAGE + 1, offset=(number - 1) * PER_PAGE)

    listed = await in_transaction(edge, read)
    return await large_page(
        request,
        "operators/reports/deleted.html",
        deleted=listed[:PER_PAGE],
        wanted=wanted,
        may_restore=operator.may(journal.restore),
        **neighbours("/ops/deleted", {"user": user, "day": day}, number, more=len(listed) > PER_PAGE),
    )
