"""What would happen under another repair policy: the question, and its answer once a worker has made it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, leading_back
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page, redirect
from domain.record_columns import MAX_ID
from panel.operators.actions import runs
from panel.operators.pages.operator_sessions import leave_notice
from panel.operators.repair_policy.policies import CLASSES, MODES
from panel.operators.repair_policy.what_ifs import latest_what_ifs, what_if

router = APIRouter(prefix="/ops/what-if", include_in_schema=False, route_class=OperatorPageRoute)

LOOK_AGAIN_S = 30
"""After so many seconds a page whose answer is not there yet is loaded again. Each time the reader loses the place."""

LOOK_FOR = timedelta(minutes=3)
"""For so long after the question. Then only the button of the page looks again."""

WhatIfId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("")
async def show_what_ifs(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """The form, and the latest questions."""
    latest = await in_transaction(edge, latest_what_ifs)
    return await large_page(
        request,
        "operators/what_if.html",
        latest=latest,
        classes=CLASSES,
        modes=MODES,
        present=edge.settings.repair_policy,
        may_ask=operator.may(runs.ask_what_if),
    )


@router.post("")
async def ask(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """Ask the workers about one class and one mode, and go to the page of the answer."""
    fields = await action_form(request, operator, runs.ask_what_if)
    policy = {fields.get("class", ""): fields.get("mode", "")}

    def work(connection: Connection) -> int:
        done = runs.ask_what_if(connection, operator.actor, policy)
        leave_notice(connection, operator.session.token_hash, done.message)
        return done.result.id

    with leading_back("/ops/what-if"):
        return redirect(f"/ops/what-if/{await in_transaction(edge, work)}")


@router.get("/{what_if_id:id}")
async def show_what_if(request: Request, edge: EdgeOf, operator: Operator, what_if_id: WhatIfId) -> Response:
    """One answer. While a worker makes it, the browser loads the page again by itself, for some minutes."""
    one = await in_transaction(edge, lambda connection: what_if(connection, what_if_id))
    shown = await large_page(request, "operators/what_if_one.html", one=one)
    if one.state == "waiting" and operator.now - one.asked_at < LOOK_FOR:
        shown.headers["Refresh"] = str(LOOK_AGAIN_S)
    return shown
