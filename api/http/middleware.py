"""Gives every request its id, one line in the access log, security headers, and an answer to an unexpected error."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.addresses import address_of
from api.http.problems import SERVER_FAULT, ProblemResponse, problem_body
from panel.monitoring.instruments import request_began, request_ended
from panel.redaction import Redactor

log = structlog.get_logger(__name__)

SANE_ID = re.compile(r"[A-Za-z0-9._~-]{1,64}")
QUIET = {"/healthz", "/metrics", "/readyz"}  # called every few seconds, so logged only when they fail
CLOSED_BY_CLIENT = 499

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""A path with one of these is answered 404. A route would not always do that: the `$` at the end of its pattern also
accepts a line break after the path."""

NOTHING_ALLOWED = "default-src 'none'; frame-ancestors 'none'"
"""For what is no page. The pages and /docs set policies of their own."""

HSTS = "max-age=31536000"  # a year, for this host only: other hosts of its domain are not the panel's


NO_SECRETS = Redactor(())


def _note_nothing(_scope: Scope, _status: int) -> None:
    """For connections that are only answered 503: they use no credential, so there is nothing to audit."""


class RequestContext:
    """Plain ASGI, so that it touches neither bodies nor cancellation."""

    def __init__(
        self, app: ASGIApp, note: Callable[[Scope, int], None] = _note_nothing, redactor: Redactor = NO_SECRETS
    ) -> None:
        """``note`` receives every finished request with its status. A request id that ``redactor`` would change holds a
        secret. Ids are journaled, so such an id is replaced."""
        self._app = app
        self._note = note
        self._redactor = redactor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        address = address_of(client[0]) if client else None  # a proxy may pass on any text
        scope["client"] = (address, client[1]) if client and address else None
        given = Headers(scope=scope).get("x-request-id", "")
        kept = SANE_ID.fullmatch(given) is not None and self._redactor(given) == given
        request_id = given if kept else uuid.uuid4().hex
        scope["request_id"] = request_id
        scope["began"] = began = time.perf_counter()
        status = 0
        finished = False
        request_began()

        async def send_and_note(message: Message) -> None:
            nonlocal status, finished
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), request_id, https=scope["scheme"] == "https")
            elif message["type"] == "http.response.body":
                finished = not message.get("more_body", False)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                app = self._app if CONTROL.search(scope["path"]) is None else _not_found
                await app(scope, receive, send_and_note)
            except ClientDisconnect:
                status = CLOSED_BY_CLIENT
            except Exception:  # the last resort: logged once, never shown to the caller
                log.exception("request_failed")
                if not status:
                    body = problem_body(500, "internal_error", SERVER_FAULT, scope["path"], request_id)
                    await ProblemResponse(body, 500)(scope, receive, send_and_note)
                elif not finished:
                    raise
            finally:
                route = getattr(scope.get("route"), "path_format", None)
                request_ended(route, scope["method"], status, time.perf_counter() - began)
                self._note(scope, status)
                if scope["path"] not in QUIET or status != 200:
                    _log_access(scope, status, began, self._redactor)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    body = problem_body(404, "not_found", f"There is nothing at {path[:200]}", path, scope["request_id"])
    await ProblemResponse(body, 404)(scope, receive, send)


def _add_headers(headers: MutableHeaders, request_id: str, *, https: bool) -> None:
    headers["X-Request-Id"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"  # for browsers that do not know frame-ancestors
    headers.setdefault("Content-Security-Policy", NOTHING_ALLOWED)
    headers.setdefault("Cache-Control", "no-store")
    if https:  # from X-Forwarded-Proto, if uvicorn trusts the proxy
        headers["Strict-Transport-Security"] = HSTS


def _log_access(scope: Scope, status: int, began: float, redactor: Redactor) -> None:
    """Log without query strings and headers, which may hold names and secrets. The redactor runs before the cut,
    because it would not recognise half a token."""
    client = scope.get("client")
    log.info(
        "http_request",
        method=scope["method"],
        path=redactor(scope["path"])[:200],
        status=status,
        duration_ms=round((time.perf_counter() - began) * 1000, 1),
        address=client[0] if client else None,
        api_key_label=scope.get("api_key_label"),
        **({"operation_id": scope["operation_id"]} if "operation_id" in scope else {}),
    )
