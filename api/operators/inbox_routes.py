"""The routes that operators read about guests which nobody ordered: the inbox, orders without a guest, adoptions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.dependencies import EdgeOf, Operator
from api.operators import adoption_models
from api.operators.reading_routes import READS, OfCluster, Offset
from api.operators.transactions import data_response, in_transaction
from panel.adoptions.decisions import list_adoptions
from panel.adoptions.inbox import guestless_orders, unmanaged_guests
from panel.adoptions.known import Reading

router = APIRouter(prefix="/api/ops", tags=["operators"])

Limit = Annotated[int, Query(ge=1, le=200)]
Guests = Annotated[int, Query(ge=1, le=50, description="Each is compared with up to sixty orders")]


@router.get(
    "/inbox", summary="Guests that nobody ordered", responses={200: {"model": adoption_models.InboxAnswer}, **READS}
)
async def get_inbox(
    edge: EdgeOf,
    _by: Operator,
    cluster: OfCluster = None,
    everything: Annotated[bool, Query(alias="all")] = False,
    limit: Guests = 50,
    offset: Offset = 0,
) -> Response:
    """The guests that no order names, each with up to three orders that may be its own, what speaks for each and what
    against it. ``all``: also the ignored and the snoozed ones."""
    reading = Reading.of(edge.settings)
    found = await in_transaction(
        edge,
        lambda connection: unmanaged_guests(
            connection, reading, cluster=cluster, everything=everything, limit=limit, offset=offset
        ),
    )
    return await data_response(found)


@router.get(
    "/inbox/orders",
    summary="Orders without a guest",
    responses={200: {"model": adoption_models.GuestlessOrdersAnswer}, **READS},
)
async def get_guestless_orders(edge: EdgeOf, _by: Operator, limit: Limit = 50, offset: Offset = 0) -> Response:
    """The orders that go on, name no guest, and whose record has none."""
    reading = Reading.of(edge.settings)
    found = await in_transaction(
        edge, lambda connection: guestless_orders(connection, reading, limit=limit, offset=offset)
    )
    return await data_response(found)


@router.get("/adoptions", summary="Adoptions", responses={200: {"model": adoption_models.AdoptionsAnswer}, **READS})
async def get_adoptions(
    edge: EdgeOf,
    _by: Operator,
    ended: Annotated[
        bool, Query(description="Those that ended in the last 90 days, instead of those that wait")
    ] = False,
    limit: Limit = 50,
    offset: Offset = 0,
) -> Response:
    """The guests that operators gave to orders, and what became of each."""
    found = await in_transaction(
        edge, lambda connection: list_adoptions(connection, ended=ended, limit=limit, offset=offset)
    )
    return await data_response(found)
