"""The list of a customer's VPS, and the page of one."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api.client.record_view import cursor_after, id_before
from api.dependencies import EdgeOf
from api.http.problems import ProblemError
from api.pages.rendering import PageRoute, link, page
from api.pages.shown_activity import shown_change
from api.pages.shown_vps import shown
from api.pages.sign_in_routes import main_site_of
from api.pages.signed_in import Customer
from domain.record_columns import MAX_ID, STATUSES
from panel.records.client_activity import client_activity
from panel.records.reads import client_record, client_records

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PER_PAGE = 25
CHANGES = 30
"""How many changes the page of a VPS shows, the newest ones."""

CONTROL = re.compile(r"[\x00-\x1f\x7f]+")

Status = Literal["", "creating", "running", "stopped", "suspended", "error"]


@router.get("/")
async def list_vps(
    request: Request,
    edge: EdgeOf,
    customer: Customer,
    q: Annotated[str, Query(max_length=255)] = "",
    status: Status = "",
    cursor: str | None = None,
) -> Response:
    """The customer's VPS, newest first, a page at a time."""
    search = CONTROL.sub(" ", q).strip()
    before = id_before(cursor) if cursor is not None else None
    wanted = client_records(
        edge.reader, customer.user_id, status=status or None, search=search, before_id=before, limit=PER_PAGE + 1
    )
    rows = await edge.read(wanted, request.scope["began"])
    asked = {name: value for name, value in (("q", search), ("status", status)) if value}
    following = None
    if len(rows) > PER_PAGE:
        following = link("/?" + urlencode(asked | {"cursor": cursor_after(rows[PER_PAGE - 1]["id"])}))
    return page(
        request,
        "list.html",
        all_vps=[shown(row) for row in rows[:PER_PAGE]],
        statuses=STATUSES,
        search=search,
        status=status,
        first=link("/?" + urlencode(asked)) if before is not None else None,
        following=following,
        main_site=main_site_of(edge),
    )


@router.get("/vps/{vps_id:id}")
async def one_vps(
    request: Request, edge: EdgeOf, customer: Customer, vps_id: Annotated[int, Path(ge=1, le=MAX_ID)]
) -> Response:
    """One VPS and what happened to it. Another customer's does not exist for this one."""
    row = await edge.read(client_record(edge.reader, customer.user_id, vps_id), request.scope["began"])
    if row is None:
        raise ProblemError(404, "vps_unknown", f"VPS {vps_id} does not exist")
    history = client_activity(edge.reader, customer.user_id, vps_id, limit=CHANGES)
    changes = [shown_change(change) for change in await edge.read(history, request.scope["began"])]
    return page(request, "vps.html", vps=shown(row), changes=changes, main_site=main_site_of(edge))
