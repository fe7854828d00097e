"""The latest runs: when, how long each phase took, what was counted, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection, Row
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from panel.operators.actions import runs
from panel.records.history import recent_runs
from panel.runs.schedule_duties import Duty, list_duties

router = APIRouter(prefix="/ops/runs", include_in_schema=False, route_class=OperatorPageRoute)

LATEST = 50

Kind = Annotated[str, Query(pattern="^(full|fast|plan)?$")]


@router.get("")
async def show_runs(request: Request, edge: EdgeOf, operator: Operator, kind: Kind = "") -> Response:
    """The latest runs of every kind or of one, and whether each periodic duty is done in time."""

    def read(connection: Connection) -> tuple[Sequence[Row[Any]], list[Duty]]:
        return recent_runs(connection, kind=kind or None, limit=LATEST), list_duties(connection)

    latest, duties = await in_transaction(edge, read)
    lanes = [duty for duty in duties if duty.every_s is not None]
    may_run = operator.may(runs.ask_for_run)
    return await large_page(request, "operators/runs.html", runs=latest, kind=kind, lanes=lanes, may_run=may_run)
