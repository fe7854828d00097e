"""The API for clients: a user's own records. A token names the user."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from api import openapi
from api.client.record_view import client_view, cursor_after, id_before
from api.dependencies import Client, EdgeOf
from api.http.problems import ProblemError
from api.http.request_headers import etag_matches
from domain.record_columns import MAX_ID
from panel.records.reads import client_record, client_records

router = APIRouter(prefix="/api/vps", tags=["client"])


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
    before = id_before(cursor) if cursor is not None else None
    # One record more than asked for shows whether there is another page.
    wanted = client_records(edge.reader, user_id, status=status, before_id=before, limit=limit + 1)
    rows = await edge.read(wanted, request.scope["began"])
    page, more = rows[:limit], len(rows) > limit
    return _cacheable(
        request,
        {
            "status": "success",
            "data": [client_view(row) for row in page],
            "next_cursor": cursor_after(page[-1]["id"]) if more else None,
        },
    )


@router.get("/{vps_id:id}", summary="One of the caller's VPS", responses=openapi.ONE_RESPONSES)
async def get_vps(
    request: Request, edge: EdgeOf, user_id: Client, vps_id: Annotated[int, Path(ge=1, le=MAX_ID)]
) -> Response:
    """Another user's record does not exist for the caller."""
    row = await edge.read(client_record(edge.reader, user_id, vps_id), request.scope["began"])
    if row is None:
        raise ProblemError(404, "vps_unknown", f"VPS {vps_id} does not exist")
    return _cacheable(request, {"status": "success", "data": client_view(row)})


def _cacheable(request: Request, body: dict[str, Any]) -> Response:
    """The answer with an entity tag over its bytes, or 304 if the caller has the same bytes already."""
    answer = JSONResponse(body)
    etag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if etag_matches(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer
