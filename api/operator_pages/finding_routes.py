"""Findings: the list by class, and what an operator answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.filters import PER_PAGE, OfClass, OfCluster, OfUser, user_id
from api.operator_pages.held_routes import PageNumber
from api.operator_pages.pages_of import neighbours
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, form_body, perform, whole
from api.operators.operator_models import IgnoreBody, SnoozeBody
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from domain.record_columns import MAX_ID
from panel.operators.actions import findings
from panel.operators.findings import UNMANAGED, FindingCount, FindingFilter, FindingView, count_findings, list_findings

router = APIRouter(prefix="/ops/findings", include_in_schema=False, route_class=OperatorPageRoute)

FindingId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("")
async def show_findings(
    request: Request,
    edge: EdgeOf,
    operator: Operator,
    class_: OfClass = "",
    cluster: OfCluster = "",
    user: OfUser = "",
    everything: Annotated[bool, Query(alias="all")] = False,
    number: PageNumber = 1,
) -> Response:
    """The open findings, the most severe first. ``all``: also those that are snoozed, ignored or resolved."""
    wanted = FindingFilter(class_ or None, cluster or None, user_id(user))

    def read(connection: Connection) -> tuple[list[FindingView], list[FindingCount]]:
        first = (number - 1) * PER_PAGE
        listed = list_findings(connection, wanted, everything=everything, limit=PER_PAGE + 1, offset=first)
        return listed, count_findings(connection)

    listed, counts = await in_transaction(edge, read)
    asked = {"class": class_, "cluster": cluster, "user": user, "all": "true" if everything else ""}
    return await large_page(
        request,
        "operators/findings.html",
        findings=listed[:PER_PAGE],
        counts=counts,
        wanted=wanted,
        everything=everything,
        unmanaged=UNMANAGED,
        may_answer=operator.may(findings.acknowledge),
        **neighbours("/ops/findings", asked, number, more=len(listed) > PER_PAGE),
    )


@router.post("/{finding_id:id}/ack")
async def acknowledge_finding(request: Request, edge: EdgeOf, operator: Operator, finding_id: FindingId) -> Response:
    """Note that the operator has seen it."""
    fields = await action_form(request, operator, findings.acknowledge)
    return await perform(edge, operator, findings.acknowledge, _list_of(fields), finding_id)


@router.post("/{finding_id:id}/snooze")
async def snooze_finding(request: Request, edge: EdgeOf, operator: Operator, finding_id: FindingId) -> Response:
    """Leave it out of lists and alarms for a while."""
    fields = await action_form(request, operator, findings.snooze)
    back = _list_of(fields)
    body = form_body(SnoozeBody, {"for_s": whole(fields.get("for_s", ""))}, back)
    return await perform(edge, operator, findings.snooze, back, finding_id, timedelta(seconds=body.for_s))


@router.post("/{finding_id:id}/ignore")
async def ignore_finding(request: Request, edge: EdgeOf, operator: Operator, finding_id: FindingId) -> Response:
    """Ignore its guest for good."""
    fields = await action_form(request, operator, findings.ignore)
    back = _list_of(fields)
    body = form_body(IgnoreBody, {"reason": fields.get("reason", "")}, back)
    return await perform(edge, operator, findings.ignore, back, finding_id, body.reason)


@router.post("/{finding_id:id}/unignore")
async def unignore_finding(request: Request, edge: EdgeOf, operator: Operator, finding_id: FindingId) -> Response:
    """List its guest again."""
    fields = await action_form(request, operator, findings.unignore)
    return await perform(edge, operator, findings.unignore, _list_of(fields), finding_id)


def _list_of(fields: Mapping[str, str]) -> str:
    """The list that the form was in: of one class, or of all."""
    class_ = fields.get("class", "")
    return f"/ops/findings?class={class_}" if re.fullmatch("[a-z-]{1,64}", class_) else "/ops/findings"
