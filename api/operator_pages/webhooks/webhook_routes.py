"""The events for the main site: how it takes them, why it did not take one, and the buttons to send again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, form_body, perform, whole
from api.operators.transactions import in_transaction
from api.operators.webhook_models import ReplayBody
from api.pages.rendering import large_page
from panel.operators.actions import webhooks
from panel.webhooks.views import EndpointView, EventView, State, endpoint, list_events

router = APIRouter(prefix="/ops/webhooks", include_in_schema=False, route_class=OperatorPageRoute)

LATEST = 100
HERE = "/ops/webhooks"


@router.get("")
async def show_events(
    request: Request, edge: EdgeOf, operator: Operator, state: Annotated[State | None, Query()] = None
) -> Response:
    """The latest events, newest first, all of them or those in one state."""

    def read(connection: Connection) -> tuple[EndpointView, list[EventView]]:
        return endpoint(connection), list_events(connection, state, limit=LATEST)

    told, events = await in_transaction(edge, read)
    return await large_page(
        request,
        "operators/webhooks.html",
        endpoint=told,
        events=events,
        state=state,
        latest=LATEST,
        may_enable=operator.may(webhooks.enable),
        may_replay=operator.may(webhooks.replay),
    )


@router.post("/enable")
async def enable_again(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """Send again after 410 Gone."""
    await action_form(request, operator, webhooks.enable)
    return await perform(edge, operator, webhooks.enable, HERE)


@router.post("/replay")
async def send_again(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """Send one event again, or all that are dead, or all since a time."""
    fields = await action_form(request, operator, webhooks.replay)
    event, since = fields.get("event", ""), fields.get("since", "")
    given = {"event": whole(event) if event else None, "dead": fields.get("dead") == "true"}
    # A browser's field for a time has no offset and no seconds. The page says that it is UTC.
    times = {"since": f"{since}:00Z" if len(since) == 16 else since} if since else {}
    body = form_body(ReplayBody, {**given, **times}, HERE)
    return await perform(edge, operator, webhooks.replay, HERE, body.wanted)
