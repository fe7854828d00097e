"""The Celery application for Flower: ``celery --app=worker.flower_app flower``.

Flower sends many requests to the workers at once, each through two connections of the pool. With the workers' small
pool every request held its first connection and waited for its second for ever, and Flower showed no event. So its pool
is larger.

By itself Flower answers ``/metrics`` without the password; here that path needs the password, too. ``/healthcheck``
stays open and answers "OK". Another site's page can change nothing (:mod:`worker.cross_site`). No answer names
versions. A page runs only Flower's own scripts, and no other site may frame it. Logging is configured here, and Flower
then leaves it alone, so its lines pass the redactor, too.
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

# The only script inside Flower's pages, in its two forms. All other scripts are files.
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
    """Adds headers to every answer, also to refusals and static files. Tornado calls it for each answer."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        headers.pop("Server", None)
        for name, value in HEADERS.items():
            headers[name] = value
        return super().transform_first_chunk(status_code, headers, chunk, finishing)


_flowers_own_check = BaseHandler.check_xsrf_cookie


def refuse_cross_site(handler: BaseHandler) -> None:
    """Tornado calls this before every method but GET, HEAD and OPTIONS. Raises HTTPError 403."""
    refusal = refusal_of(handler.request.host, handler.request.headers)
    if refusal is not None:
        raise HTTPError(403, refusal)
    _flowers_own_check(handler)


app.conf.broker_pool_limit = 64
BaseHandler.check_xsrf_cookie = refuse_cross_site
Metrics.get = authenticated(Metrics.get)
tornado_settings["transforms"] = [SafeHeaders]
configure_logging(settings.log_format, secrets=secrets_of(settings))

__all__ = ["app"]
