"""The Celery application as Flower uses it: ``celery --app=worker.flower_app flower``.

Flower asks workers many things at once, each through two connections of the pool. With the workers' small pool
every question holds its first connection and waits for its second: for ever, and no event is shown.

Flower answers ``/metrics`` without its password; here it asks there, too. ``/healthcheck`` stays open and says "OK".
Nothing is changed at the wish of another site's page (:mod:`worker.cross_site`). No answer names versions, and a page
runs Flower's own scripts only, in nobody's frame. Flower configures no logging where somebody else has: its lines pass
the redactor like everybody's.
"""

from __future__ import annotations

import base64
import hashlib

from flower.urls import settings as tornado_settings
from flower.views import BaseHandler
from flower.views.monitor import Metrics
from tornado.httputil import HTTPHeaders
from tornado.web import HTTPError, OutputTransform, authenticated

from panel.logging import configure_logging
from panel.redaction import secrets_of
from worker.app import app, settings
from worker.cross_site import refusal_of

# The only script that stands within a page; the others are files.
_INLINE = [f"\nvar autorefresh = {on};\n" for on in (0, 1)]
_HASHES = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in _INLINE)

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self' {_HASHES}; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class SafeHeaders(OutputTransform):
    """Tornado's own place for what concerns every answer, refusals and static files included."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        headers.pop("Server", None)
        for name, value in HEADERS.items():
            headers[name] = value
        return super().transform_first_chunk(status_code, headers, chunk, finishing)


_flowers_own_check = BaseHandler.check_xsrf_cookie


def check_where_it_comes_from(handler: BaseHandler) -> None:
    """Tornado calls this before everything but GET, HEAD and OPTIONS. Raises HTTPError 403."""
    refusal = refusal_of(handler.request.host, handler.request.headers)
    if refusal is not None:
        raise HTTPError(403, refusal)
    _flowers_own_check(handler)


app.conf.broker_pool_limit = 64
BaseHandler.check_xsrf_cookie = check_where_it_comes_from
Metrics.get = authenticated(Metrics.get)
tornado_settings["transforms"] = [SafeHeaders]
configure_logging(settings.log_format, secrets=secrets_of(settings))

__all__ = ["app"]
