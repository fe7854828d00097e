"""Whatever a server says, and whatever our libraries make of it, is an answer or that server's fault."""

from __future__ import annotations

import contextlib
import ssl

import httpcore
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sources.clock import Clock, http_date
from sources.json_client import JsonClient
from sources.outgoing import client as module
from sources.outgoing.client import Answer, Client
from sources.outgoing.faults import CutOff, SourceFault, Unreachable
from sources.outgoing.sockets import BoundedStream, Limits
from tests.integration.sources.raw_server import RawServer, http
from tests.support.waiting import PATIENCE_S

TLS = ssl.create_default_context()
LIMITS = Limits(connect_s=PATIENCE_S, read_s=PATIENCE_S, answer_s=PATIENCE_S, body_bytes=100_000)


class Recorded(httpcore.NetworkBackend):
    """Every connection says the same and ends."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    def connect_tcp(self, *_: object, **__: object) -> httpcore.NetworkStream:
        return BoundedStream(httpcore.MockStream([self._said]))


def asked(said: bytes) -> Answer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BoundedBackend", lambda **_: Recorded(said))
        return Client("http://site.test", tls=TLS, limits=LIMITS).exchange("GET", "/orders")


NONSENSE: dict[str, bytes] = {
    "nothing": b"",
    "NUL": b"\0" * 100,
    "another protocol": b"220 smtp.test ESMTP\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a status of one digit": b"HTTP/1.1 2 OK\r\n\r\n",
    "a status of 000": b"HTTP/1.1 000 OK\r\n\r\n",
    "a status of 999": b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
    "another version": b"HTTP/9.9 200 OK\r\n\r\n",
    "no name": b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n",
    "bytes that are no text": b"HTTP/1.1 200 \xff\xfe\r\nX: \x80\xff\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n[]",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[]",
    "a length of 5,000 digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n[]",
    "a length that is no number": "HTTP/1.1 200 OK\r\nContent-Length: \u0662\r\n\r\n".encode(),
    "a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n[]",
    "another transfer coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n[]",
    "a chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "a chunk of any size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
    "switched protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n[]",
    "two answers": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]HTTP/1.1 200 OK\r\n\r\n",
    "a cookie": http(b"[]", extra="Set-Cookie: =; Expires=x; Max-Age=z; Domain=.\r\n"),
    "two cookies of a name": http(b"[]", extra="Set-Cookie: a=1; Path=/\r\nSet-Cookie: a=2; Path=/orders\r\n"),
    "a date of the year 10000": http(b"[]", extra="Date: Fri, 31 Dec 10000 23:59:59 GMT\r\n"),
    "a date of a strange zone": http(b"[]", extra="Date: Fri, 31 Dec 1999 23:59:59 +99999999\r\n"),
    "a wish of 5,000 digits": http(b"[]", status="503 No", extra="Retry-After: " + "9" * 5_000 + "\r\n"),
    "a type that is none": http(b"[]", content_type="\x7f;;=;charset=\x80".encode("latin-1").decode("ascii", "ignore")),
    **{
        f"a place {place[:20]!r}": http(status="302 Found", extra=f"Location: {place}\r\n")
        for place in (
            "javascript:1", "http://x:y/", "http://[::1", "http://\\u0000/", "//", "http://", "data:,", "http://xn--a/",
            "http://" + "a" * 70_000, "/" * 300, "http://x:99999999999/", "http://user:pass@x/", "%", "?", "#",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_an_answer_or_a_fault(name: str) -> None:
    with contextlib.suppress(SourceFault):
        assert isinstance(asked(NONSENSE[name]), Answer)
    with RawServer(NONSENSE[name]) as server, contextlib.suppress(SourceFault):
        reader = JsonClient(f"http://{server.authority}", headers={}, tls=TLS, limits=LIMITS, clock=Clock())
        reader.get("/orders")


def test_no_place_is_looked_at_and_no_cookie_kept() -> None:
    found = http(status="302 Found", extra="Location: http://127.0.0.1:1/\r\nSet-Cookie: a=1\r\n")
    with RawServer(found) as server:
        asking = Client(f"http://{server.authority}", tls=TLS, limits=LIMITS)
        for _ in range(2):
            assert asking.exchange("GET").status == 302
        assert not any("cookie" in head.lower() for head in server.heads)


HEAD = st.sampled_from([*NONSENSE.values(), http(b"[]"), http(b"[]", extra="Content-Encoding: gzip\r\n")])


@settings(deadline=None)
@given(HEAD, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.binary(max_size=8)), max_size=5))
def test_any_mutation_is_an_answer_or_a_fault(wire: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    for at, taken, put in changes:
        wire = wire[:at] + put + wire[at + taken :]
    with contextlib.suppress(SourceFault):
        asked(wire)


@settings(deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"\w{3}, \d{1,3} \w{3} \d{1,6} \d{1,3}:\d{2}:\d{2} [+-]?\w{0,9}"))
def test_any_date_is_one_or_none(text: str) -> None:
    http_date(text)


def raising(error: Exception) -> Client:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return Client("http://site.test", tls=TLS, limits=LIMITS, transport=httpx.MockTransport(answer))


ERRORS: list[Exception] = [
    kind("x")
    for kind in (
        *(getattr(httpx, name) for name in httpx.__all__ if name.endswith(("Error", "Timeout", "Protocol"))),
        httpx.TooManyRedirects, httpx.InvalidURL, httpx.DecodingError, httpx.StreamClosed.__mro__[1],
        ssl.SSLError, ssl.SSLCertVerificationError, OSError, ConnectionResetError, UnicodeError, ValueError,
        OverflowError, LookupError, RuntimeError, RecursionError,
    )
    if issubclass(kind, Exception) and kind is not httpx.HTTPStatusError
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_a_library_raises_is_a_fault(error: Exception) -> None:
    with pytest.raises(SourceFault) as told:
        raising(error).exchange("GET")
    assert str(told.value) != "x"


class TaskIsOverError(Exception):
    """As Celery's SoftTimeLimitExceeded: raised by a signal, wherever the task is."""


def test_the_end_of_a_task_is_no_fault() -> None:
    with pytest.raises(TaskIsOverError):
        raising(TaskIsOverError()).exchange("GET")


ASKING: list[tuple[str, dict[str, str], type[SourceFault]]] = [
    ("http://x:99999", {}, SourceFault),
    ("http://[::1", {}, Unreachable),
    ("javascript:1", {}, Unreachable),
    ("http://", {}, Unreachable),
    ("http://xn--a..b", {}, SourceFault),
    ("http://" + "a" * 300 + ".test", {}, SourceFault),
    ("http://127.0.0.1:1", {"X": "a\r\nb"}, Unreachable),
    ("http://127.0.0.1:1", {"X": "\u0434"}, SourceFault),
]


@pytest.mark.parametrize(("url", "headers", "fault"), ASKING)
def test_an_address_that_is_none_is_a_fault(url: str, headers: dict[str, str], fault: type[SourceFault]) -> None:
    with pytest.raises(fault):
        Client(url, tls=TLS, limits=LIMITS, headers=headers).exchange("GET")


def test_a_cut_answer_is_told_as_such() -> None:
    with pytest.raises(CutOff):
        asked(http(b"[]", length=3))
