"""One exchange with one server: the request, and the answer with its body unpacked.

Any library error on the way becomes a ``SourceFault``.

The client is a transport, not a browser: it ignores redirects, keeps no cookies, and takes nothing from the environment
(proxies, .netrc).
"""

from __future__ import annotations

import re
import ssl
import time
import weakref
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import h11
import httpcore
import httpx

from sources.outgoing.faults import CutOff, Malformed, SourceFault, TimedOut, TlsRefused, Unreachable
from sources.outgoing.sockets import BoundedBackend, Exchange, Limits, as_current_exchange
from sources.outgoing.tls import refusal_of
from tracing.spans import Kind, inner_span

Transport = httpx.BaseTransport
"""Carries an exchange. Tests pass their own in place of sockets."""

PROXY_FORM = "a proxy's address must read http://host:port or http://user:password@host:port"

ERROR_BODY_BYTES = 64 * 1024
"""The largest error body. The status says enough, so an unreadable error body is left out."""

LIBRARY_ERRORS = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    h11.ProtocolError,
    OSError,  # of sockets and of ssl
    ValueError,  # of idna, of codecs, of ports
    ArithmeticError,
    LookupError,
    RuntimeError,
)
"""What httpx, httpcore, h11, ssl, idna and codecs raise for nonsense. Not ``Exception``: a task's time limit is one."""

_GZIP = 16 + zlib.MAX_WBITS
COMPRESSION_BROKEN = "the answer's compression is broken"
_STEP = 256 * 1024
"""Bytes to decompress at once. The size is checked after each step."""

_MEMBERS = 10_000
"""The most members of a gzip body. Each takes time to start, even an empty one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that arrived whole. ``trip_s``: seconds until its head arrived.

    The body is kept out of repr, because it may hold secrets and personal data.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    trip_s: float
    body: bytes = field(repr=False)


class Client:
    """Requests to one address. Used by one thread at a time."""

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext,
        limits: Limits,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        public_only: bool = False,
        transport: Transport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        source: str | None = None,
    ) -> None:
        """``proxy``: ``http://[user:password@]host:port``, else ``ValueError``. ``public_only``: connect to public
        addresses only, unless a proxy does that. ``monotonic`` measures ``trip_s``. ``source``: what traces call the
        server."""
        self._url, self._limits, self._monotonic, self._source = url, limits, monotonic, source
        self._headers = {"User-Agent": "panel-sync", "Accept-Encoding": "gzip", **(headers or {})}
        self._timeout = httpx.Timeout(limits.read_s, connect=limits.connect_s).as_dict()
        self._transport = transport or _BoundedTransport(tls, proxy, public_only=public_only)
        # A source lives as long as a run. If nobody closes it, its sockets must still close.
        self._close = weakref.finalize(self, self._transport.close)

    def exchange(
        self,
        method: str,
        path: str = "",
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        status_only: bool = False,
    ) -> Answer:
        """Send the request. Returns the whole answer, of any status; raises a ``SourceFault`` if there is none.

        With ``status_only`` nothing after the head is read.
        """
        # A trace never learns the address: its path may name a guest or an order. The server never learns of the trace.
        noted = {"http.request.method": method, "panel.source": self._source}
        with inner_span(method, Kind.CLIENT, noted) as span:
            answer = self._exchange(method, path, params, headers, content, status_only=status_only)
            span.note({"http.response.status_code": answer.status})
            return answer

    def _exchange(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        *,
        status_only: bool,
    ) -> Answer:
        exchange, began = Exchange(self._limits), self._monotonic()
        try:
            with as_current_exchange(exchange):
                request = httpx.Request(
                    method,
                    self._url + path,
                    params=params or None,
                    headers={**self._headers, **(headers or {})},
                    content=content,
                    extensions={"timeout": self._timeout},
                )
                response = self._transport.handle_request(request)
                trip_s = self._monotonic() - began
                try:
                    body = b"" if status_only else self._body(response, exchange)
                finally:
                    response.close()
            return Answer(response.status_code, response.reason_phrase, response.headers, trip_s, body)
        except LIBRARY_ERRORS as error:
            raise self._fault(error, exchange) from error

    def _body(self, response: httpx.Response, exchange: Exchange) -> bytes:
        limit = self._limits.body_bytes if response.is_success else min(ERROR_BODY_BYTES, self._limits.body_bytes)
        exchange.body_begins(limit)
        try:
            gzip = is_gzip(response.headers.get_list("Content-Encoding"))
            if not isinstance(response.stream, httpx.SyncByteStream):
                raise TypeError("a transport of the other kind")
            return body_of(response.stream, gzip=gzip, limit=limit)
        except (SourceFault, *LIBRARY_ERRORS):
            if response.is_success:
                raise
            return b""

    def _fault(self, error: Exception, exchange: Exchange) -> SourceFault:
        refusal = refusal_of(error) if isinstance(error, httpx.ConnectError) else None
        if refusal is not None:
            return TlsRefused(f"its certificate is not trusted: {refusal}")
        if isinstance(error, httpx.ProxyError):
            status = re.match(r"\d{3}\b", str(error))
            return Unreachable("the proxy makes no connection" + (f" ({status[0]})" if status else ""))
        if isinstance(error, httpx.TimeoutException) and exchange.is_over:
            return TimedOut(f"the answer took longer than {self._limits.answer_s:g} s")
        if isinstance(error, httpx.ConnectTimeout):
            return Unreachable(f"no connection within {self._limits.connect_s:g} s")
        if isinstance(error, httpx.ConnectError):
            return Unreachable("no connection could be made")
        if isinstance(error, httpx.TimeoutException):
            return TimedOut(f"no answer within {self._limits.read_s:g} s")
        if isinstance(error, httpx.InvalidURL | httpx.LocalProtocolError | httpx.UnsupportedProtocol):
            return Unreachable("its address or the request's headers cannot be sent")
        if isinstance(error, httpx.TransportError):
            return CutOff("the connection ended before the whole answer had arrived")
        return Malformed(f"the answer cannot be understood ({type(error).__name__})")

    def close(self) -> None:
        """Close the connections."""
        self._close()


class _BoundedTransport(httpx.HTTPTransport):
    """httpx's own transport, on connections that obey the current exchange's limits."""

    def __init__(self, tls: ssl.SSLContext, proxy: str | None, *, public_only: bool) -> None:
        super().__init__(verify=tls, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            proxy=None if proxy is None else _proxy(proxy),
            max_connections=4,
            max_keepalive_connections=2,
            # Shorter than any server's keep-alive, so that no request is written to a connection about to close.
            keepalive_expiry=3,
            network_backend=BoundedBackend(public_only=public_only and proxy is None),
        )


def _proxy(url: str) -> httpcore.Proxy:
    try:
        given = httpx.Proxy(url)
    except httpx.InvalidURL:
        raise ValueError(PROXY_FORM) from None
    if given.url.scheme != "http" or not given.url.host or not 0 < (given.url.port or 80) < 65536:
        raise ValueError(PROXY_FORM)
    address = httpcore.URL(scheme=b"http", host=given.url.raw_host, port=given.url.port or 80, target=b"/")
    return httpcore.Proxy(address, auth=given.raw_auth)


def is_gzip(codings: Iterable[str]) -> bool:
    """Whether the body is compressed, by the values of ``Content-Encoding``.

    Raises ``Malformed`` for another coding and for several: nested codings multiply the size, and no server needs two.
    """
    named = [coding.strip().lower() for value in codings for coding in value.split(",") if coding.strip()]
    if named in ([], ["identity"]):
        return False
    if named in (["gzip"], ["x-gzip"]):
        return True
    raise Malformed("the answer is compressed in a way that was not asked for (only gzip, once)")


def body_of(chunks: Iterable[bytes], *, gzip: bool, limit: int) -> bytes:
    """The whole body, of at most ``limit`` bytes after decompression. Raises ``Malformed``."""
    if gzip:
        unpacking = _Unpacking(limit)
        for arrived in chunks:
            unpacking.take(arrived)
        return unpacking.whole()
    body = bytearray()
    for arrived in chunks:
        body += arrived
        _check_size(len(body), limit)
    return bytes(body)


class _Unpacking:
    """A gzip body as it arrives. It may have several members, one after the other."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._body = bytearray()
        self._member = zlib.decompressobj(_GZIP)
        self._members = 1

    def take(self, rest: bytes) -> None:
        """Add the content of the next bytes, checking the size at each step."""
        while True:
            if self._member.eof:
                if not rest:
                    return
                self._begin_another()
            step = min(_STEP, self._limit + 1 - len(self._body))
            try:
                piece = self._member.decompress(rest, step)
            except zlib.error:
                raise Malformed(COMPRESSION_BROKEN) from None
            self._body += piece
            _check_size(len(self._body), self._limit)
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if not rest and len(piece) < step:
                return

    def whole(self) -> bytes:
        """The complete body."""
        if not self._member.eof:
            raise Malformed(COMPRESSION_BROKEN)
        return bytes(self._body)

    def _begin_another(self) -> None:
        self._members += 1
        if self._members > _MEMBERS:
            raise Malformed(COMPRESSION_BROKEN)
        self._member = zlib.decompressobj(_GZIP)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise Malformed(f"the answer is larger than {limit} bytes")
