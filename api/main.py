"""The ASGI application: ``uvicorn --factory api.main:app_from_environment``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException

from api import docs_page, health_routes, metrics_routes, openapi
from api.access_audit import AccessAudit
from api.client import client_routes, event_routes, power_routes
from api.client.jwks import Jwks
from api.client.jwt_auth import TokenVerifier
from api.client.live_changes import LiveChanges
from api.dependencies import Edge
from api.http.middleware import RequestContext
from api.http.problems import ProblemError, on_http_exception, on_invalid_parameter, on_problem
from api.main_site import batch_routes, sync_routes
from api.main_site.api_keys import ApiKeys, BadKeyLimiter, KeyPrefixes
from api.operator_pages import all_routes as operator_pages
from api.operators import action_routes, reading_routes
from api.operators.operator_keys import OperatorKeys
from api.pages import sign_in_routes, static_files, vps_routes
from panel.deadlines import Deadlines
from panel.heartbeat import INTERVAL_S, pulse
from panel.journal.accept import IN_ORDER_COMMITS, SEPARATE_COMMITS, Acceptor
from panel.journal.calls import DatabaseAwayError, OutcomeUnknownError, OverloadedError
from panel.journal.operation_waiter import OperationWaiter
from panel.journal.publish import CeleryPublisher, producer_app
from panel.journal.relay import Relay
from panel.logging import configure_logging
from panel.operator_error import OperatorError
from panel.records.public import Place
from panel.redaction import Redactor, secrets_of
from panel.sessions import async_engine
from panel.setting_conflicts import key_conflicts
from panel.settings import Settings, SettingsError, get_settings

DESCRIPTION = (
    "Sync calls of the main site, clients' own VPS, and what operators decide. Errors are "
    "`application/problem+json` with a human `message` and a stable `code`."
)


def create_app(settings: Settings, *, acceptor: Acceptor | None = None) -> FastAPI:
    """The application. It starts without its database and answers 503 until the database is there.

    ``acceptor`` replaces the one made from the settings. Raises SettingsError.
    """
    settings.require("vps_sync_api_key", "database_url")
    for problem in key_conflicts(settings):
        raise SettingsError(problem)
    Place.root = settings.root_path
    jwks = None
    if settings.jwt_jwks_url:
        jwks = _jwks(settings)
    verifier = TokenVerifier(settings, jwks)
    # Separate pools: however many clients read, a sync call still gets a connection.
    deadlines = Deadlines(settings.answer_within_s)
    # For the common commit, for those of locked calls and of batches, and for the audit of refused calls.
    writer = _engine(settings, "panel-sync api accept", pool_size=2 + SEPARATE_COMMITS + IN_ORDER_COMMITS)
    reader = _engine(settings, "panel-sync api read", pool_size=8)
    listener = async_engine(settings.session_url, "panel-sync api listen", pool_size=1, deadlines=deadlines)
    edge = Edge(
        settings=settings,
        acceptor=acceptor or Acceptor(writer, deadlines=deadlines),
        reader=reader,
        operation_waiter=OperationWaiter(reader, listener=listener),
        keys=ApiKeys({"current": settings.vps_sync_api_key, "previous": settings.vps_sync_api_key_previous}),
        operator_keys=OperatorKeys(settings.operators()),
        prefixes=KeyPrefixes(settings.vps_sync_api_key),
        limiter=BadKeyLimiter(time.monotonic),
        verifier=verifier,
        live=LiveChanges(reader, deadlines),
        access=AccessAudit(reader, time.monotonic),
        redactor=Redactor(secrets_of(settings)),
    )
    relay = _relay(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
        async with AsyncExitStack() as stack:  # ended in reverse order
            for engine in (writer, reader, listener):
                stack.push_async_callback(engine.dispose)
            if jwks is not None:
                stack.push_async_callback(jwks.close)
            if relay is not None:
                relay.start()
                stack.push_async_callback(asyncio.to_thread, relay.stop)
            await edge.access.start()
            stack.push_async_callback(edge.access.stop)
            await edge.operation_waiter.start()
            stack.push_async_callback(edge.operation_waiter.stop)
            await edge.acceptor.start()
            stack.push_async_callback(edge.acceptor.stop)
            beating = asyncio.create_task(_beat())
            stack.callback(beating.cancel)
            await edge.live.start()
            stack.push_async_callback(edge.live.stop)
            yield {"release_waiting": edge.release_waiting}

    app = FastAPI(
        title="panel-sync",
        version=version("panel-sync"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page runs scripts from a public CDN; :mod:`api.docs_page` runs none
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.edge = edge
    app.state.relay = relay
    app.state.database_numbers = metrics_routes.DatabaseNumbers(edge, time.monotonic)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]  # FastAPI's documented way
    app.add_middleware(RequestContext, note=edge.access.note, redactor=edge.redactor)
    for kind in (ProblemError, OperatorError, DatabaseAwayError, OutcomeUnknownError, OverloadedError):
        app.add_exception_handler(kind, on_problem)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_invalid_parameter)
    for module in (
        sync_routes,
        batch_routes,
        client_routes,
        event_routes,
        power_routes,
        reading_routes,
        action_routes,
        health_routes,
        metrics_routes,
        docs_page,
    ):
        app.include_router(module.router)
    for module in (sign_in_routes, vps_routes, static_files):
        app.include_router(module.router)
    for router in operator_pages.ROUTERS:
        app.include_router(router)
    return app


def app_from_environment() -> FastAPI:
    """The application made from the environment's settings. A wrong setting ends the process with one sentence."""
    try:
        settings = get_settings()
        configure_logging(settings.log_format, secrets=secrets_of(settings))
        _quiet_uvicorn()
        return create_app(settings)
    except SettingsError as error:
        raise SystemExit(f"panel-sync: {error}") from None


async def _beat() -> None:
    """Show the supervisor that the event loop runs."""
    while True:
        pulse.beat()
        await asyncio.sleep(INTERVAL_S)


def _jwks(settings: Settings) -> Jwks:
    try:
        return Jwks(
            settings.jwt_jwks_url,
            settings.jwt_algorithms,
            time.monotonic,
            ca_file=settings.jwt_jwks_ca_file,
            proxy=settings.jwt_jwks_proxy.get_secret_value() or None,
            fetch_s=Deadlines(settings.answer_within_s).keys_s,
        )
    except ValueError as error:
        raise SettingsError(f"JWT_JWKS_URL: {error}") from None


def _engine(settings: Settings, application: str, *, pool_size: int) -> AsyncEngine:
    deadlines = Deadlines(settings.answer_within_s)
    url, pooled = settings.database_url, settings.pooled
    return async_engine(url, application, pool_size=pool_size, deadlines=deadlines, pooled=pooled)


def _relay(settings: Settings) -> Relay | None:
    """Publishing needs a broker. Without one calls are accepted and wait in the journal."""
    if not settings.redis_url:
        return None
    return Relay(settings.session_url, CeleryPublisher(producer_app(settings.redis_url)))


def _quiet_uvicorn() -> None:
    """One format for all lines. The middleware writes the access lines, without query strings."""
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True
