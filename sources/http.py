"""One bounded GET of a JSON document. Timeouts, size and completeness are checked here for every source."""

from __future__ import annotations

import re
import ssl
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

import httpx
from pydantic_core import from_json

from sources.clock import DATE_RESOLUTION_S, Clock, http_date
from sources.faults import CutOff, Malformed, SourceFault, TimedOut, TlsRefused, Unreachable
from sources.tls import refusal_of


def segment(text: str) -> str:
    """The text as one segment of a path. Raises Malformed for the two that would lead elsewhere."""
    if text in {".", ".."}:
        raise Malformed(f"cannot be asked for {text!r}: as part of a path it would name something else")
    return quote(text, safe="")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that arrived whole.

    ``began`` is on the clock's monotonic scale. ``document`` is the parsed body if ``is_json``; it is kept
    out of repr because a source's rows may carry what must not be shown.
    """

    status: int
    reason: str
    began: float
    date: datetime | None
    skew_s: float | None
    retry_after: str | None
    media_type: str
    is_json: bool
    document: object = field(repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one answer, in seconds and bytes."""

    connect_s: float
    read_s: float
    answer_s: float
    body_bytes: int


class JsonClient:
    """A synchronous client for one server. Redirects are not followed: they could carry the key elsewhere."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        tls: ssl.SSLContext,
        limits: Limits,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._base_url = base_url.rstrip("/")
        self._client = httpx.Client(
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", **headers},
            verify=tls,
            timeout=httpx.Timeout(limits.read_s, connect=limits.connect_s),
            # Shorter than any server's own keep-alive, so that no request is written to a dying connection.
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=2, keepalive_expiry=3),
            follow_redirects=False,
            trust_env=False,  # no proxy and no .netrc by accident
            transport=transport,
        )
        # Sources live as long as a run: one that nobody closed must not keep its sockets.
        self._close = weakref.finalize(self, self._client.close)

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """GET ``path``; raise a ``SourceFault`` unless a whole answer of any status arrived."""
        began = self._clock.monotonic()
        wall = self._clock.wall()
        try:
            with self._client.stream("GET", self._base_url + path, params=dict(params or {})) as response:
                date = http_date(response.headers.get("Date"))
                # The answer was dated between the two; half of the trip is the best guess.
                trip = self._clock.monotonic() - began
                body = self._read(response, began)
        except httpx.HTTPError as error:
            raise self._fault(error) from error
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        is_json, document = _parsed(body) if _says_json(media_type) else (False, None)
        return Answer(
            status=response.status_code,
            reason=response.reason_phrase,
            began=began,
            date=date,
            skew_s=None if date is None else (date - wall).total_seconds() + (DATE_RESOLUTION_S - trip) / 2,
            retry_after=response.headers.get("Retry-After"),
            media_type=media_type,
            is_json=is_json,
            document=document,
        )

    def _read(self, response: httpx.Response, began: float) -> bytes:
        """The body, bounded; the transport itself refuses one that is shorter than declared."""
        chunks: list[bytes] = []
        size = 0
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > self._limits.body_bytes:
                raise Malformed(f"the answer is larger than {self._limits.body_bytes} bytes")
            # The read timeout is per read: a server that drips would never reach it.
            if self._clock.monotonic() - began > self._limits.answer_s:
                raise TimedOut(f"the answer took longer than {self._limits.answer_s:g} s")
            chunks.append(chunk)
        return b"".join(chunks)

    def _fault(self, error: httpx.HTTPError) -> SourceFault:
        refusal = refusal_of(error) if isinstance(error, httpx.ConnectError) else None
        if refusal is not None:
            return TlsRefused(f"its certificate is not trusted: {refusal}")
        if isinstance(error, httpx.ConnectTimeout):
            return Unreachable(f"no connection within {self._limits.connect_s:g} s")
        if isinstance(error, httpx.ConnectError):
            return Unreachable("no connection could be made")
        if isinstance(error, httpx.TimeoutException):
            return TimedOut(f"no answer within {self._limits.read_s:g} s")
        if isinstance(error, httpx.DecodingError):
            return Malformed("the answer's compression is broken")
        return CutOff("the connection ended before the whole answer had arrived")

    def close(self) -> None:
        """Close the connections."""
        self._close()


def _says_json(media_type: str) -> bool:
    return re.fullmatch(r"application/(?:[\w.-]+\+)?json", media_type) is not None


def _parsed(body: bytes) -> tuple[bool, object]:
    try:
        return True, from_json(body.removeprefix(b"\xef\xbb\xbf"), allow_inf_nan=False)
    except ValueError:
        return False, None
