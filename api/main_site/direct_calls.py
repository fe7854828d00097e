"""Answers single sync calls without FastAPI's router and dependencies, which cost more than the call itself.

The route in :mod:`api.main_site.sync_routes` describes the call in the OpenAPI document. It does the same, and answers
whatever does not come by the plain path.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.dependencies import Edge, main_site_label
from api.http.problems import EXPECTED, on_problem
from api.main_site.sync_routes import POST_SYNC, answer_to_call


class DirectCalls:
    """Stands inside of ``RequestContext``, before the router."""

    def __init__(self, app: ASGIApp, edge: Edge) -> None:
        self._app = app
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != POST_SYNC.path:
            await self._app(scope, receive, send)
            return
        scope["route"] = POST_SYNC  # for metrics, traces and the audit of use
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            return await answer_to_call(request, self._edge, main_site_label(request, self._edge))
        except EXPECTED as error:
            return await on_problem(request, error)
