"""The API for clients: a user's own records. A token names the user."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api import openapi
from api.client.entity_tags import entity_tag, is_known, known_numbers
from api.client.record_view import cursor_after, id_before
from api.dependencies import Client, EdgeOf
from api.http.problems import ProblemError
from domain.record_columns import MAX_ID
from panel.records.client_records import client_answers

router = APIRouter(prefix="/api/vps", tags=["client"])

ONE = 0
"""In the tag of a record that was asked for by its id: no list is that long."""


@router.get("", summary="List the caller's VPS", responses=openapi.LIST_RESPONSES)
async def list_vps(
    request: Request,
    edge: EdgeOf,
    user_id: Client,
    status: Annotated[openapi.Status | None, Query(description="Only records of this status")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, openapi.CURSOR] = None,
) -> Response:
    """Own records only, newest first. A user that the panel does not know has none."""
    given = request.headers.getlist("if-none-match")
    before = id_before(cursor) if cursor is not None else None
    # One record more than asked for shows whether there is another page.
    wanted = client_answers(
        edge.clients,
        user_id,
        status=status or "",
        before_id=before,
        limit=limit + 1,
        known=known_numbers(given, limit),
    )
    tag, records = await edge.read(wanted, request.scope["began"])
    if is_known(given, limit, tag):
        return Response(status_code=304, headers=_headers(limit, tag))
    page, more = records[:limit], len(records) > limit
    following = f'"{cursor_after(page[-1][0])}"' if more else "null"
    data = ",".join(answer for _, answer in page)
    return _json(f'{{"status":"success","data":[{data}],"next_cursor":{following}}}', limit, tag)


@router.get("/{vps_id:id}", summary="One of the caller's VPS", responses=openapi.ONE_RESPONSES)
async def get_vps(
    request: Request, edge: EdgeOf, user_id: Client, vps_id: Annotated[int, Path(ge=1, le=MAX_ID)]
) -> Response:
    """Another user's record does not exist for the caller."""
    given = request.headers.getlist("if-none-match")
    wanted = client_answers(edge.clients, user_id, vps_id=vps_id, known=known_numbers(given, ONE))
    tag, records = await edge.read(wanted, request.scope["began"])
    if tag is None:
        raise ProblemError(404, "vps_unknown", f"VPS {vps_id} does not exist")
    if is_known(given, ONE, tag):
        return Response(status_code=304, headers=_headers(ONE, tag))
    [(_, answer)] = records
    return _json(f'{{"status":"success","data":{answer}}}', ONE, tag)


def _json(body: str, limit: int, number: int | None) -> Response:
    return Response(body, media_type="application/json", headers=_headers(limit, number))


def _headers(limit: int, number: int | None) -> dict[str, str]:
    return {"ETag": entity_tag(limit, number), "Cache-Control": "private, no-cache", "Vary": "Authorization"}
