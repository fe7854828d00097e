"""The deletes of the last days, and what other limits or another policy would have made of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.held_routes import PageNumber
from api.operator_pages.pages_of import neighbours
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from panel.operators.repair_policy.past_deletes import OtherLimits, past_deletes
from panel.operators.repair_policy.policies import MODES

router = APIRouter(prefix="/ops/what-if", include_in_schema=False, route_class=OperatorPageRoute)

PER_PAGE = 100

# A form sends an empty value for what is left as it is set.
Number = Annotated[str, Query(pattern="^[0-9]{0,9}$")]
Mode = Annotated[str, Query(pattern="^[a-z]{0,16}$")]


@router.get("/deletes")
async def show_deletes(
    request: Request,
    edge: EdgeOf,
    _operator: Operator,
    days: Number = "",
    orphan: Mode = "",
    missed_delete: Annotated[Mode, Query(alias="missed-delete")] = "",
    deletes_run: Number = "",
    deletes_hour: Number = "",
    deletes_day: Number = "",
    pushed_deletes_hour: Number = "",
    number: PageNumber = 1,
) -> Response:
    """The form, the counts by day, and the deletes, newest first."""
    asked = {
        "days": days,
        "missed-delete": missed_delete,
        "orphan": orphan,
        "deletes_run": deletes_run,
        "deletes_hour": deletes_hour,
        "deletes_day": deletes_day,
        "pushed_deletes_hour": pushed_deletes_hour,
    }
    modes = {name: asked[name] for name in ("missed-delete", "orphan") if asked[name]}
    run, hour, day, pushed = (
        int(text) if text else None for text in (deletes_run, deletes_hour, deletes_day, pushed_deletes_hour)
    )
    other, back = OtherLimits(run, hour, day, pushed, modes), int(days or 30)
    found = await in_transaction(edge, lambda connection: past_deletes(connection, edge.settings, back, other))
    first = (number - 1) * PER_PAGE
    return await large_page(
        request,
        "operators/what_if_deletes.html",
        found=found,
        deletes=found.deletes[first : first + PER_PAGE],
        asked=asked,
        modes=MODES,
        **neighbours("/ops/what-if/deletes", asked, number, more=len(found.deletes) > first + PER_PAGE),
    )
