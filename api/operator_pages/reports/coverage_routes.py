"""What the last look of the runs covers, and what cannot be judged and why."""

from __future__ import annotations

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.filters import PER_PAGE, OfClass, OfCluster, OfUser, user_id
from api.operator_pages.held_routes import PageNumber
from api.operator_pages.pages_of import neighbours
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute
from api.operators.transactions import make_report
from api.pages.rendering import large_page
from panel.operators.reports.blind_spots import CLASSES, SpotFilter
from panel.operators.reports.coverage import CoverageReport, coverage
from panel.operators.reports.looks import configured

router = APIRouter(prefix="/ops/coverage", include_in_schema=False, route_class=OperatorPageRoute)


@router.get("")
async def show_coverage(
    request: Request,
    edge: EdgeOf,
    _operator: Operator,
    class_: OfClass = "",
    cluster: OfCluster = "",
    user: OfUser = "",
    number: PageNumber = 1,
) -> Response:
    """Each source and node, how many of each class cannot be judged, and one page of them."""
    of, wanted = configured(edge.settings), SpotFilter(class_ or None, cluster or None, user_id(user))

    def read(connection: Connection) -> CoverageReport:
        return coverage(connection, of, wanted, limit=PER_PAGE, offset=(number - 1) * PER_PAGE)

    report = await make_report(edge, read)
    asked = {"class": class_, "cluster": cluster, "user": user}
    around = neighbours("/ops/coverage", asked, number, more=report.more)
    return await large_page(
        request, "operators/reports/coverage.html", report=report, wanted=wanted, classes=list(CLASSES), **around
    )
