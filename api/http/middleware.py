"""Gives every request its id, its place in a trace, one line in the access log, security headers, and an answer to an
unexpected error."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.addresses import address_of
from api.http.problems import SERVER_FAULT, ProblemResponse, problem_body
from api.http.request_headers import header_values
from panel.monitoring.instruments import request_began, request_ended
from panel.redaction import Redactor
from tracing.spans import Kind, Span, span
from tracing.traceparent import trace_id_of, valid_traceparent

log = structlog.get_logger(__name__)

SANE_ID = re.compile(r"[A-Za-z0-9._~-]{1,64}")
QUIET = {"/healthz", "/metrics", "/readyz"}  # called every few seconds, so logged only when they fail
CLOSED_BY_CLIENT = 499
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""A path with one of these is answered 404. A route would not always do that: the `$` at the end of its pattern also
accepts a line break after the path."""

HSTS = b"max-age=31536000"  # a year, for this host only: other hosts of its domain are not the panel's

RawHeaders = list[tuple[bytes, bytes]]

OWN_HEADERS: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
]
ALWAYS_OURS = frozenset({b"x-request-id", b"strict-transport-security", *(name for name, _ in OWN_HEADERS)})

DEFAULT_HEADERS: RawHeaders = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
"""For what is no page. The pages and /docs set policies of their own."""


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
        if scope["path"] in QUIET:
            scope["traceparent"] = None
            await self._handled(scope, receive, send)
            return
        given = valid_traceparent(header_values(scope, b"traceparent"))
        with span("request", Kind.SERVER, continues=given) as noted:
            scope["traceparent"] = noted.traceparent or given
            status = await self._handled(scope, receive, send)
            _note(noted, scope, status)

    async def _handled(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Handle the request to its end. Returns the status; 0: it was given up without an answer."""
        given = next(iter(header_values(scope, b"x-request-id")), "")
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
                message["headers"] = _with_own_headers(message["headers"], request_id, https=scope["scheme"] == "https")
            elif message["type"] == "http.response.body":
                finished = not message.get("more_body", False)
            await send(message)

        named = {"request_id": request_id}
        if trace_id := trace_id_of(scope["traceparent"]):
            named["trace_id"] = trace_id
        bound = structlog.contextvars.bind_contextvars(**named)
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
            structlog.contextvars.reset_contextvars(**bound)
        return status


def _note(noted: Span, scope: Scope, status: int) -> None:
    """What a trace says of a request: the template of its path, never the path, its query, headers or body."""
    method = scope["method"] if scope["method"] in METHODS else "OTHER"
    route = getattr(scope.get("route"), "path_format", None)
    noted.rename(f"{method} {route}" if route else method)
    noted.note(
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status or None,
            "panel.operation_id": scope.get("operation_id"),
            "panel.action_id": scope.get("action_id"),
        }
    )
    if status == 0 or status >= 500:
        noted.failed(str(status))


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    body = problem_body(404, "not_found", f"There is nothing at {path[:200]}", path, scope["request_id"])
    await ProblemResponse(body, 404)(scope, receive, send)


def _with_own_headers(given: RawHeaders, request_id: str, *, https: bool) -> RawHeaders:
    """The headers of an answer with those that every answer has."""
    names = {name for name, _ in given}
    headers = [header for header in given if header[0] not in ALWAYS_OURS] if names & ALWAYS_OURS else list(given)
    headers.append((b"x-request-id", request_id.encode()))
    headers += OWN_HEADERS
    headers += [header for header in DEFAULT_HEADERS if header[0] not in names]
    if https:  # from X-Forwarded-Proto, if uvicorn trusts the proxy
        headers.append((b"strict-transport-security", HSTS))
    return headers


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
        **{name: scope[name] for name in ("operation_id", "action_id") if name in scope},
    )
