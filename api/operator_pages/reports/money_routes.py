"""Machines that run unpaid, and orders that are paid and whose machine is missing: on a page, and as a file."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.filters import PER_PAGE, OfCluster, OfUser, user_id
from api.operator_pages.held_routes import PageNumber
from api.operator_pages.pages_of import neighbours
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute
from api.operators.reports.report_routes import money_file
from api.operators.transactions import make_report
from api.pages.rendering import large_page, link, redirect
from panel.operators.reports.looks import configured
from panel.operators.reports.money import REASONS, MoneyFilter, MoneyReport, money
from panel.operators.reports.money_statements import Subject

router = APIRouter(prefix="/ops/money", include_in_schema=False, route_class=OperatorPageRoute)

OfReason = Annotated[str, Query(pattern=r"^([a-z-]{1,64})?$")]
Days = Annotated[str, Query(pattern="^[0-9]{0,5}$")]
OfSubject = Annotated[Subject, Path()]


def _filter(reason: str, cluster: str, user: str, days: str) -> MoneyFilter:
    return MoneyFilter(reason or None, cluster or None, user_id(user), timedelta(days=int(days or 0)))


@router.get("")
async def begin_with_the_unpaid(_operator: Operator) -> Response:
    """The first of the two lists."""
    return redirect(f"/ops/money/{Subject.UNPAID}")


@router.get("/{subject}.csv")
async def send_money_file(
    edge: EdgeOf,
    _operator: Operator,
    subject: OfSubject,
    reason: OfReason = "",
    cluster: OfCluster = "",
    user: OfUser = "",
    days: Days = "",
) -> Response:
    """All rows that the filter leaves, as CSV."""
    return await money_file(edge, subject, _filter(reason, cluster, user, days))


@router.get("/{subject}")
async def show_money(
    request: Request,
    edge: EdgeOf,
    _operator: Operator,
    subject: OfSubject,
    reason: OfReason = "",
    cluster: OfCluster = "",
    user: OfUser = "",
    days: Days = "",
    number: PageNumber = 1,
) -> Response:
    """Totals, by reason, age and plan, and one page of the list, the oldest first."""
    of, wanted = configured(edge.settings), _filter(reason, cluster, user, days)

    def read(connection: Connection) -> MoneyReport:
        return money(connection, of, subject, wanted, limit=PER_PAGE, offset=(number - 1) * PER_PAGE)

    report = await make_report(edge, read)
    asked = {"reason": reason, "cluster": cluster, "user": user, "days": days}
    path = f"/ops/money/{subject}"
    query = urlencode({name: value for name, value in asked.items() if value})
    return await large_page(
        request,
        "operators/reports/money.html",
        report=report,
        wanted=wanted,
        days=days,
        subject=subject.value,
        reasons=list(REASONS[subject]),
        file=link(f"{path}.csv" + (f"?{query}" if query else "")),
        **neighbours(path, asked, number, more=report.more),
    )
