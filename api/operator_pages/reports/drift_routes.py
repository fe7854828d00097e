"""The records that differ from their order or their guest, as runs saw them last. Each leads to the page of its VPS."""

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
from panel.operators.repair_policy.policies import handling_of
from panel.operators.reports.drift import CLASSES, DriftFilter, DriftReport, drift
from panel.operators.reports.drift_fates import Fate, fates
from panel.operators.reports.looks import configured

router = APIRouter(prefix="/ops/drift", include_in_schema=False, route_class=OperatorPageRoute)


@router.get("")
async def show_drift(
    request: Request,
    edge: EdgeOf,
    _operator: Operator,
    class_: OfClass = "",
    cluster: OfCluster = "",
    user: OfUser = "",
    number: PageNumber = 1,
) -> Response:
    """How many differ by class, and one page of them with the facts that differ."""
    of, wanted = configured(edge.settings), DriftFilter(class_ or None, cluster or None, user_id(user))

    handling = handling_of(edge.settings)

    def read(connection: Connection) -> tuple[DriftReport, dict[int, Fate]]:
        report = drift(connection, of, wanted, limit=PER_PAGE, offset=(number - 1) * PER_PAGE)
        return report, fates(connection, report.rows, handling)

    report, what_happens = await make_report(edge, read)
    asked = {"class": class_, "cluster": cluster, "user": user}
    around = neighbours("/ops/drift", asked, number, more=report.more)
    return await large_page(
        request,
        "operators/reports/drift.html",
        report=report,
        fates=what_happens,
        wanted=wanted,
        classes=list(CLASSES),
        **around,
    )
