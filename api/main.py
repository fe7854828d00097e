"""The ASGI application: ``uvicorn --factory api.main:app_from_environment``."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException

from api import docs_page, health_routes, metrics_routes, openapi
from api.access_audit import AccessAudit
from api.client import client_routes, event_routes, power_routes, statistics_routes
from api.client.jwks import Jwks
from api.client.jwt_auth import TokenVerifier
from api.client.live_changes import STREAMS, LiveChanges
from api.dependencies import Edge
from api.http.middleware import RequestContext
from api.http.open_files import allow_open_files
from api.http.problems import EXPECTED, on_http_exception, on_problem
from api.http.protocol import CONNECTIONS_AT_ALL
from api.main_site import batch_routes, sync_routes
from api.main_site.api_keys import ApiKeys, BadKeyLimiter, KeyPrefixes
from api.main_site.direct_calls import DirectCalls
from api.operator_pages import all_routes as operator_pages
from api.operators import action_routes, inbox_routes, reading_routes, repair_policy_routes
from api.operators.operator_keys import OperatorKeys
from api.operators.reports import report_routes
from api.pages import sign_in_routes, static_files, vps_routes
from panel.clients.round_trips import client_reads
from panel.deadlines import Deadlines
from panel.heartbeat import INTERVAL_S, pulse
from panel.journal.accept import IN_ORDER_COMMITS, SEPARATE_COMMITS, Acceptor
from panel.journal.operation_waiter import OperationWaiter
from panel.journal.publish import CeleryPublisher, producer_app
from panel.journal.relay import Relay
from panel.logging import configure_logging
from panel.records.public import Place
from panel.redaction import Redactor, secrets_of
from panel.sessions import async_engine
from panel.setting_conflicts import key_conflicts
from panel.settings import Settings, SettingsError, get_settings
from sources.outgoing.trace_collector import export_traces
from tracing.spans import switch_off

OTHER_FILES = 256
"""Open files beside callers' connections: those to PostgreSQL and Redis, metrics, logs."""

DESCRIPTION = (
    "Sync calls of the main site, clients' own VPS, and what operators decide. Errors are "
    "`application/problem+json` with a human `message` and a stable `code`."
)

NO_TELEMETRY = TelemetryConfig(tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False)
"""FastAPI's own would note what callers sent, and go where variables of the environment say."""


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
    connections = 2 + SEPARATE_COMMITS + IN_ORDER_COMMITS
    writer = _engine(settings, "panel-sync api accept", pool_size=connections, pre_ping=False)
    reader = _engine(settings, "panel-sync api read", pool_size=5)
    clients = client_reads(settings.database_url, "panel-sync api client", deadlines=deadlines, pooled=settings.pooled)
    listener = async_engine(settings.session_url, "panel-sync api listen", pool_size=1, deadlines=deadlines)
    edge = Edge(
        settings=settings,
        acceptor=acceptor or Acceptor(writer, deadlines=deadlines),
        reader=reader,
        clients=clients,
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
            export_traces(settings.traces_url, "api")
            stack.push_async_callback(asyncio.to_thread, switch_off)
            for engine in (writer, reader, listener, clients):
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
            yield {"release_waiting": edge.release_waiting, "open_streams": edge.live.open_streams}

    app = FastAPI(
        title="panel-sync",
        version=version("panel-sync"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page runs scripts from a public CDN; :mod:`api.docs_page` runs none
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    app.state.edge = edge
    app.state.relay = relay
    app.state.database_numbers = metrics_routes.DatabaseNumbers(edge, time.monotonic)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]  # FastAPI's documented way
    app.add_middleware(DirectCalls, edge=edge)
    app.add_middleware(RequestContext, note=edge.access.note, redactor=edge.redactor)
    for kind in EXPECTED:
        app.add_exception_handler(kind, on_problem)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_problem)
    for module in (
        sync_routes,
        batch_routes,
        client_routes,
        event_routes,
        power_routes,
        statistics_routes,
        reading_routes,
        report_routes,
        inbox_routes,
        action_routes,
        repair_policy_routes,
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
        allow_open_files(CONNECTIONS_AT_ALL + STREAMS + OTHER_FILES)
        app = create_app(settings)
    except SettingsError as error:
        raise SystemExit(f"panel-sync: {error}") from None
    # What is made by now stays to the end. To look through it again and again for garbage takes a tenth of a second
    # each time, in which no call is answered.
    gc.collect()
    gc.freeze()
    return app


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


def _engine(settings: Settings, application: str, *, pool_size: int, pre_ping: bool = True) -> AsyncEngine:
    deadlines = Deadlines(settings.answer_within_s)
    url, pooled = settings.database_url, settings.pooled
    return async_engine(url, application, pool_size=pool_size, deadlines=deadlines, pooled=pooled, pre_ping=pre_ping)


def _relay(settings: Settings) -> Relay | None:
    """Publishing needs a broker. Without one calls are accepted and wait in the journal."""
    if not settings.redis_url:
        return None
    publisher = CeleryPublisher(producer_app(settings.redis_url))
    return Relay(settings.session_url, publisher, webhook=bool(settings.main_site_webhook_url))


def _quiet_uvicorn() -> None:
    """One format for all lines. The middleware writes the access lines, without query strings."""
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True
