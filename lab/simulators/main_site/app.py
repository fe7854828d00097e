"""The main site's HTTP edge: the feeds under /api/panel, the control API under /_sim, and the way to the panel's
pages."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from email.utils import format_datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from lab.simulators.keys import same_key
from lab.simulators.main_site.answers import Answer, refusal
from lab.simulators.main_site.feeds import Feeds
from lab.simulators.main_site.sign_in import PanelPages, sign_in_routes
from lab.simulators.main_site.site import MainSite
from lab.simulators.main_site.verbs import MainSiteVerbs
from lab.simulators.verbs import CONTROL_HEADER, CONTROL_PREFIX, VerbRefusedError, carry_out, verb_names

PAGE_LIMIT = 1000
VERBS = verb_names(MainSiteVerbs)


class UnauthorizedError(Exception):
    """A request without the right key."""


class CutResponse(Response):
    """Announces the whole length, sends half of the body, and lets the server close the connection."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


class SiteDate:
    """Middleware that sets the Date header by the site's own clock, which may be skewed."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], now: Callable[[], datetime]) -> None:
        self._app = app
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = format_datetime(self._now(), usegmt=True).encode()
                message["headers"] = [*message.get("headers", ()), (b"date", date)]
            await send(message)

        await self._app(scope, receive, dated)


def create_app(site: MainSite, *, api_key: str, control_key: str, panel_pages: PanelPages | None = None) -> FastAPI:
    """The application. `api_key` is the key of the feeds, `control_key` the key of the control API.

    Without `panel_pages` no customer is led to the panel's pages.
    """
    app = FastAPI(title="Main site simulator", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SiteDate, now=site.now)
    app.include_router(_feed_routes(site, api_key), prefix="/api/panel")
    app.include_router(_control_routes(site, control_key), prefix=CONTROL_PREFIX)
    if panel_pages is not None:
        app.include_router(sign_in_routes(site, panel_pages))

    @app.exception_handler(UnauthorizedError)
    async def refused(_request: Request, _error: UnauthorizedError) -> Response:
        return _json(refusal(401, "Invalid or missing API key"))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        fields = ", ".join(str(fault["loc"][-1]) for fault in error.errors())
        return _json(refusal(400, f"Invalid parameters: {fields}"))

    @app.exception_handler(VerbRefusedError)
    async def verb_refused(_request: Request, error: VerbRefusedError) -> Response:
        return _json(refusal(error.status, str(error)))

    return app


def _feed_routes(site: MainSite, api_key: str) -> APIRouter:
    def check(x_api_key: Annotated[str | None, Header()] = None) -> None:
        if not same_key(x_api_key, api_key):
            raise UnauthorizedError

    routes = APIRouter(dependencies=[Depends(check)])

    async def reply(ask: Callable[[Feeds], Answer]) -> Response:
        return await _respond(site.feed(ask))

    @routes.get("/health")
    async def health() -> Response:
        return await reply(lambda feeds: feeds.health())

    @routes.get("/orders")
    async def orders(
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = PAGE_LIMIT,
        updated_since: datetime | None = None,
    ) -> Response:
        if updated_since is not None and updated_since.tzinfo is None:
            return _json(refusal(400, "Invalid parameters: updated_since has no time zone"))
        return await reply(lambda feeds: feeds.orders_page(cursor=cursor, limit=limit, updated_since=updated_since))

    @routes.get("/orders/{order_id}")
    async def order(order_id: int) -> Response:
        return await reply(lambda feeds: feeds.single_order(order_id))

    @routes.get("/users")
    async def users(
        cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = PAGE_LIMIT
    ) -> Response:
        return await reply(lambda feeds: feeds.users_page(cursor=cursor, limit=limit))

    @routes.get("/users/{user_id}/vps")
    async def servers_of(user_id: int) -> Response:
        return await reply(lambda feeds: feeds.servers_of(user_id))

    @routes.get("/vps/{server_id}")
    async def server(server_id: int) -> Response:
        return await reply(lambda feeds: feeds.single_server(server_id))

    @routes.get("/vps/{server_id}/status")
    async def server_status(server_id: int) -> Response:
        return await reply(lambda feeds: feeds.single_server(server_id, status_only=True))

    return routes


def _control_routes(site: MainSite, control_key: str) -> APIRouter:
    def check(key: Annotated[str | None, Header(alias=CONTROL_HEADER)] = None) -> None:
        if not same_key(key, control_key):
            raise UnauthorizedError

    routes = APIRouter()

    @routes.get("/health")
    async def alive() -> dict[str, str]:
        return {"status": "success"}

    @routes.post("/{verb}", dependencies=[Depends(check)])
    def do(verb: str, arguments: Annotated[dict[str, Any], Body()]) -> JSONResponse:
        # In a thread, because a verb may call the panel and wait for its answer.
        data = carry_out(site, VERBS, verb, arguments)
        return JSONResponse({"status": "success", "data": data})

    return routes


async def _respond(answer: Answer) -> Response:
    if answer.delay_s:
        await asyncio.sleep(answer.delay_s)
    return _json(answer)


def _json(answer: Answer) -> Response:
    if isinstance(answer.body, str):
        content, media_type = answer.body, "text/html"
    else:
        content, media_type = json.dumps(answer.body, ensure_ascii=False), "application/json"
    kind = CutResponse if answer.cut else Response
    return kind(content.encode(), status_code=answer.status, media_type=media_type)
