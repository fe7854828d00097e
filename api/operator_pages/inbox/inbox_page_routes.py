"""The adoption inbox as pages: the guests, the orders without a guest, the adoptions, and what an operator decides."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api.dependencies import EdgeOf
from api.operator_pages.filters import OfCluster
from api.operator_pages.finding_routes import FindingId
from api.operator_pages.held_routes import PageNumber
from api.operator_pages.pages_of import neighbours
from api.operator_pages.signed_in_operator import Operator, OperatorPageRoute, action_form, form_body, perform, whole
from api.operators.adoption_models import AdoptBody, WithdrawBody
from api.operators.operator_models import IgnoreBody
from api.operators.transactions import in_transaction
from api.pages.rendering import large_page
from domain.record_columns import MAX_ID
from panel.adoptions.decisions import list_adoptions
from panel.adoptions.inbox import guestless_orders, unmanaged_guests
from panel.adoptions.known import Reading
from panel.operators.actions import adoptions, findings

router = APIRouter(prefix="/ops/inbox", include_in_schema=False, route_class=OperatorPageRoute)

INBOX, ADOPTIONS = "/ops/inbox", "/ops/inbox/adoptions"

GUESTS = 25
"""Guests on a page: each has up to three orders with their evidence."""
ROWS = 50
"""Orders or adoptions on a page."""

AdoptionId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("")
async def show_inbox(
    request: Request,
    edge: EdgeOf,
    operator: Operator,
    cluster: OfCluster = "",
    everything: Annotated[bool, Query(alias="all")] = False,
    number: PageNumber = 1,
) -> Response:
    """The guests that nobody ordered. ``all``: also the ignored and the snoozed ones."""
    reading, first = Reading.of(edge.settings), (number - 1) * GUESTS
    listed = await in_transaction(
        edge,
        lambda connection: unmanaged_guests(
            connection, reading, cluster=cluster or None, everything=everything, limit=GUESTS + 1, offset=first
        ),
    )
    asked = {"cluster": cluster, "all": "true" if everything else ""}
    return await large_page(
        request,
        "operators/inbox.html",
        guests=listed[:GUESTS],
        cluster=cluster,
        everything=everything,
        may_adopt=operator.may(adoptions.adopt),
        **neighbours(INBOX, asked, number, more=len(listed) > GUESTS),
    )


@router.get("/orders")
async def show_guestless_orders(
    request: Request, edge: EdgeOf, _operator: Operator, number: PageNumber = 1
) -> Response:
    """The orders whose guest nobody knows."""
    reading, first = Reading.of(edge.settings), (number - 1) * ROWS
    listed = await in_transaction(
        edge, lambda connection: guestless_orders(connection, reading, limit=ROWS + 1, offset=first)
    )
    around = neighbours("/ops/inbox/orders", {}, number, more=len(listed) > ROWS)
    return await large_page(request, "operators/inbox_orders.html", orders=listed[:ROWS], **around)


@router.get("/adoptions")
async def show_adoptions(
    request: Request, edge: EdgeOf, operator: Operator, ended: bool = False, number: PageNumber = 1
) -> Response:
    """The adoptions that wait for a run, or those that ended."""
    first = (number - 1) * ROWS
    listed = await in_transaction(
        edge, lambda connection: list_adoptions(connection, ended=ended, limit=ROWS + 1, offset=first)
    )
    asked = {"ended": "true" if ended else ""}
    return await large_page(
        request,
        "operators/adoptions.html",
        adoptions=listed[:ROWS],
        ended=ended,
        may_adopt=operator.may(adoptions.withdraw),
        **neighbours(ADOPTIONS, asked, number, more=len(listed) > ROWS),
    )


@router.post("/adopt")
async def adopt_guest(request: Request, edge: EdgeOf, operator: Operator) -> Response:
    """Adopt the guest that the page showed into the order that the form names."""
    fields = await action_form(request, operator, adoptions.adopt)
    wanted = {name: fields.get(name, "") for name in ("cluster", "guest_type", "fingerprint", "reason")}
    named = {"order_id": fields.get("order_id") or None, "vps": whole(fields["vps"]) if fields.get("vps") else None}
    body = form_body(AdoptBody, {**wanted, "vmid": whole(fields.get("vmid", "")), **named}, INBOX)
    reading = Reading.of(edge.settings)
    return await perform(
        edge,
        operator,
        adoptions.adopt,
        INBOX,
        body.seen,
        body.reason,
        reading,
        order_id=body.order_id,
        vps_id=body.vps,
    )


@router.post("/adoptions/{adoption_id:id}/withdraw")
async def withdraw_adoption(request: Request, edge: EdgeOf, operator: Operator, adoption_id: AdoptionId) -> Response:
    """Take an adoption back."""
    fields = await action_form(request, operator, adoptions.withdraw)
    body = form_body(WithdrawBody, {"reason": fields.get("reason", "")}, ADOPTIONS)
    return await perform(edge, operator, adoptions.withdraw, ADOPTIONS, adoption_id, body.reason)


@router.post("/findings/{finding_id:id}/ignore")
async def ignore_guest(request: Request, edge: EdgeOf, operator: Operator, finding_id: FindingId) -> Response:
    """Ignore a guest that belongs to nobody, for good."""
    fields = await action_form(request, operator, findings.ignore)
    body = form_body(IgnoreBody, {"reason": fields.get("reason", "")}, INBOX)
    return await perform(edge, operator, findings.ignore, INBOX, finding_id, body.reason)
