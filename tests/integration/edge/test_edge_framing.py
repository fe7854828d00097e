"""One request, one answer: no header, method or version makes a body a request, or a trailer a header."""

from __future__ import annotations

import json
import socket

import pytest
from sqlalchemy import text

from api.http.framing import HEAD_BYTES
from tests.integration.edge.conftest import Answer, Place, create_vps, logged, posted, received
from tests.support.keys import random_key
from tests.support.resources import resident_bytes
from tests.support.waiting import PATIENCE_S, wait_until

JSON = "Content-Type: application/json"
GOOD = json.dumps(create_vps()).encode()
CHUNKED = "Transfer-Encoding: chunked"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: panel\r\n\r\n"


def _chunks(body: bytes, trailers: bytes = b"") -> bytes:
    return b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailers)


def _all_received(connection: socket.socket) -> list[Answer]:
    """Every answer until the server ends the connection."""
    answers = []
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1.1 "), data
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        answers.append(Answer(int(first.split()[1]), headers, rest[:length]))
        data = rest[length:]
    return answers


def _answers(place: Place, raw: bytes) -> list[Answer]:
    """All that these bytes get. What follows them ends the connection, if nothing before did."""
    with socket.create_connection(("127.0.0.1", place.api.port), timeout=PATIENCE_S) as connection:
        connection.sendall(raw)
        return _all_received(connection)


def _statuses(place: Place, raw: bytes) -> list[int]:
    return [answer.status for answer in _answers(place, raw)]


def _asked(place: Place, before: int) -> list[str]:
    """The paths of the requests that were answered since."""
    return [event["path"] for event in place.api.log()[before:] if event["event"] == "http_request"]


ENDED = b"GET /ended HTTP/1.1\r\nHost: panel\r\nConnection: close\r\n\r\n"

UPGRADES: list[tuple[str, tuple[str, ...]]] = [
    ("h2c", ("Connection: Upgrade", "Upgrade: h2c")),
    ("h2c as curl asks", ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")),
    ("a websocket", ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                     "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")),
    ("anything", ("Connection: Upgrade", "Upgrade: anything")),
    ("TLS", ("Connection: Upgrade", "Upgrade: TLS/1.0")),
    ("several", ("Connection: keep-alive, Upgrade", "Upgrade: a, b", "Upgrade: c")),
    ("nothing", ("Connection: upgrade", "Upgrade:")),
]  # fmt: skip
FRAMINGS = [("a length", False), ("chunks", True)]


@pytest.mark.parametrize("chunked", [row[1] for row in FRAMINGS], ids=[row[0] for row in FRAMINGS])
@pytest.mark.parametrize("wish", [row[1] for row in UPGRADES], ids=[row[0] for row in UPGRADES])
def test_the_body_of_who_wants_to_upgrade_is_a_body(place: Place, wish: tuple[str, ...], chunked: bool) -> None:
    """A call is journaled once, though its body comes later; and nothing in it is a request."""
    seen, before = logged(place), place.counted()["operations"]
    body = GOOD[:-1] + b" " * 10 + b', "x": ' + json.dumps(SMUGGLED.decode()).encode() + b"}"
    framing = CHUNKED if chunked else f"Content-Length: {len(body)}"
    head = posted(place, b"", JSON, framing, *wish)
    with socket.create_connection(("127.0.0.1", place.api.port), timeout=PATIENCE_S) as connection:
        connection.sendall(head)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):  # its body is awaited: there is no answer yet
            connection.recv(1)
        connection.settimeout(PATIENCE_S)
        connection.sendall(_chunks(body) if chunked else body)
        connection.sendall(SMUGGLED)
        (answer,) = _all_received(connection)
    assert answer.status == 202, answer.body
    assert answer.headers["connection"] == "close"
    assert "upgrade" not in answer.headers
    assert place.counted()["operations"] == before + 1
    wait_until(lambda: _asked(place, seen) == ["/api/vps/sync"], "that request alone to be logged")


@pytest.mark.parametrize(
    "raw",
    [
        b"CONNECT panel:443 HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"CONNECT /api/vps HTTP/1.1\r\nHost: panel\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED),
        b"CONNECT http://panel/ HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"PRI / HTTP/2.0\r\nHost: panel\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: panel\r\n\r\n",
        b"GET / HTTP/3\r\nHost: panel\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: panel\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: panel\r\n\r\n",
        b"GET / http/1.1\r\nHost: panel\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: panel\r\n\r\n",
        b"GET /healthz\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"GET\t/healthz HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"get /healthz HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"GET healthz HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"GET /healthz#x HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"GET /h\xc3\xa4lthz HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nHost: panel\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nhost: other\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nHost: panel\r\nHost: other\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a, b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a/../b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a@b\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: panel\n\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\nX: y\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\rX: y\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nX: a\r\n b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n X: a\r\nHost: panel\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : panel\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nno colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\n: no name\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nX: a\x00b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nX(: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: panel\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: panel\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: panel\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: panel\r\nContent-Length: 0x3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: panel\r\nContent-Length: 3 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: panel\r\nContent-Length:\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: panel\r\nContent-Length : 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: panel\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: panel\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\r\n\r\nGET /healthz HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"\n GET /healthz HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)  # fmt: skip
def test_what_is_not_strictly_http_1_1_is_refused_once(place: Place, raw: bytes) -> None:
    """At once, by one answer; nothing behind it is read."""
    seen = logged(place)
    (answer,) = _answers(place, raw + SMUGGLED)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "invalid_http")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    logged(place)
    assert "/smuggled" not in _asked(place, seen)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"\r\nGET /healthz HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"GET /healthz?a=b&c=%0A HTTP/1.1\r\nhOST:panel:5050\r\nX:\r\nY: \t z \t \r\n\r\n",
        b"GET http://panel/healthz HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"GET HTTPS://panel:1/healthz?x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nContent-Length: 0003\r\n\r\nabc",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n00\r\nX: y\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nConnection: keep-alive\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_unusual_but_right_is_answered_and_the_connection_goes_on(place: Place, raw: bytes) -> None:
    assert _statuses(place, raw + raw + ENDED) == [200, 200, 404]


@pytest.mark.parametrize("name", ["X-API-Key", "Content-Length", "Content-Type", "Idempotency-Key"])
@pytest.mark.parametrize("blanks", [" ", "\t", " \t  "], ids=["a space", "a tab", "both"])
def test_blanks_behind_a_value_are_no_part_of_it(place: Place, name: str, blanks: str) -> None:
    """RFC 9110, 5.5: the same call with them and without them is one call."""
    given = {
        "X-API-Key": place.api.sync_key,
        "Content-Length": str(len(GOOD)),
        "Content-Type": "application/json",
        "Idempotency-Key": random_key(),
    }
    before = place.counted()["operations"]
    replayed = []
    for behind in (blanks, ""):
        lines = [f"{key}: {value}{behind if key == name else ''}" for key, value in given.items()]
        head = "\r\n".join(["POST /api/vps/sync HTTP/1.1", "Host: panel", *lines, "", ""])
        answer, ended = _answers(place, head.encode() + GOOD + ENDED)
        assert (answer.status, ended.status) == (202, 404), answer.body
        replayed.append(answer.headers.get("idempotent-replayed"))
    assert replayed == [None, "true"]
    assert place.counted()["operations"] == before + 1


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nConnection: a, CLOSE\r\nConnection: keep-alive\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: panel\r\nExpect: 100-continue\r\nContent-Length: 400\r\n\r\n",
    ],
)
def test_an_answer_that_is_the_last_one_says_so(place: Place, raw: bytes) -> None:
    seen = logged(place)
    (answer,) = _answers(place, raw + SMUGGLED)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    logged(place)
    assert "/smuggled" not in _asked(place, seen)


def test_a_body_that_was_announced_is_asked_for_and_read(place: Place) -> None:
    before = place.counted()["operations"]
    head = posted(place, b"", JSON, f"Content-Length: {len(GOOD)}", "Expect: 100-continue")
    with socket.create_connection(("127.0.0.1", place.api.port), timeout=PATIENCE_S) as connection:
        connection.sendall(head)
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        answer = received(connection)
    assert answer is not None
    assert answer.status == 202
    assert place.counted()["operations"] == before + 1


# --- trailers


def test_a_key_in_a_trailer_is_no_key(place: Place) -> None:
    before = place.counted()
    head = b"POST /api/vps/sync HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: chunked\r\n" + JSON.encode() + b"\r\n\r\n"
    raw = head + _chunks(GOOD, f"X-API-Key: {place.api.sync_key}\r\nX-Forwarded-For: 198.51.100.9\r\n".encode())
    answer, ended = _answers(place, raw + ENDED)
    assert (answer.status, ended.status) == (401, 404)
    assert place.counted() == before


def test_a_token_in_a_trailer_is_no_token(place: Place) -> None:
    token = place.api.client(5)["Authorization"].encode()
    head = b"GET /api/vps HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert _statuses(place, head + _chunks(b"x", b"Authorization: " + token + b"\r\n") + ENDED) == [401, 404]


def test_a_content_type_in_a_trailer_is_none(place: Place) -> None:
    raw = posted(place, _chunks(GOOD, JSON.encode() + b"\r\n"), CHUNKED)
    assert _statuses(place, raw + ENDED) == [415, 404]


@pytest.mark.parametrize(
    "trailer",
    [
        b"Connection: upgrade\r\nUpgrade: h2c\r\n",
        b"Content-Length: 500\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: other\r\n",
        b"Connection: close\r\n",
    ],
)
def test_a_trailer_frames_nothing(place: Place, trailer: bytes) -> None:
    raw = posted(place, _chunks(GOOD, trailer), JSON, CHUNKED)
    assert _statuses(place, raw + raw + ENDED) == [202, 202, 404]


@pytest.mark.parametrize(
    "trailer", [b"no colon\r\n", b" folded: x\r\n", b"X: a\nY: b\r\n", b"X: \x00\r\n", b"X : a\r\n"]
)
def test_a_trailer_that_is_no_header_line_is_refused(place: Place, trailer: bytes) -> None:
    before = place.counted()
    assert _statuses(place, posted(place, _chunks(GOOD, trailer), JSON, CHUNKED) + SMUGGLED) == [400]
    assert place.counted() == before


@pytest.mark.parametrize("endless", [b"X: " + b"a" * 1000 + b"\r\n", b"a" * 1000], ids=["lines", "one line"])
def test_endless_trailers_are_cut(place: Place, endless: bytes) -> None:
    """They cost no memory, whatever they consist of."""
    before, counted = resident_bytes(place.api.process.pid), place.counted()
    raw = posted(place, _chunks(GOOD)[:-2], JSON, CHUNKED)
    with socket.create_connection(("127.0.0.1", place.api.port), timeout=PATIENCE_S) as connection:
        connection.sendall(raw)
        for _ in range(20_000):  # 20 MB
            connection.sendall(endless)
        connection.shutdown(socket.SHUT_WR)
        (answer,) = _all_received(connection)
    assert (answer.status, json.loads(answer.body)["code"]) == (431, "headers_too_large")
    assert place.counted() == counted
    assert resident_bytes(place.api.process.pid) - before < 8 * 2**20


def test_trailers_as_large_as_headers_may_be_are_dropped(place: Place) -> None:
    trailer = b"X: " + b"a" * (HEAD_BYTES - 10) + b"\r\n"
    raw = posted(place, _chunks(GOOD, trailer), JSON, CHUNKED)
    assert _statuses(place, raw + ENDED) == [202, 404]


# --- what comes behind a request


GARBAGE = [b"\x00", b"garbage\r\n\r\n", b"0\r\n\r\n", b"\r\n\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", b"{" * 1_000_000]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda raw: repr(raw[:12]))
def test_garbage_behind_a_call_takes_nothing_from_its_answer(place: Place, garbage: bytes) -> None:
    before = place.counted()["operations"]
    accepted, refused = _answers(place, posted(place, GOOD) + garbage + SMUGGLED)
    assert accepted.status == 202, accepted.body
    assert refused.status in {400, 431}
    operation = json.loads(accepted.body)["operation"]["id"]
    with place.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM operations WHERE id = :id"), {"id": operation}) == 1
    assert place.counted()["operations"] == before + 1


def test_a_length_that_is_too_short_cuts_the_body_there(place: Place) -> None:
    before = place.counted()
    assert _statuses(place, posted(place, GOOD, length=len(GOOD) - 1)) == [400, 400]
    assert place.counted() == before


def test_requests_sent_together_are_answered_in_their_order(place: Place) -> None:
    first, second = (posted(place, json.dumps(create_vps(name=name)).encode()) for name in ("a", "b"))
    answers = _answers(place, first + b"GET /healthz HTTP/1.1\r\nHost: panel\r\n\r\n" + second + ENDED)
    assert [answer.status for answer in answers] == [202, 200, 202, 404]
    assert [json.loads(answers[n].body)["vps"]["name"] for n in (0, 2)] == ["a", "b"]


def test_a_call_without_a_key_whose_body_follows_has_one_answer(place: Place) -> None:
    """The answer is out before the body is there; a bad one gets no second answer."""
    head = b"POST /api/vps/sync HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", place.api.port), timeout=PATIENCE_S) as connection:
        connection.sendall(head)
        first = received(connection)
        connection.sendall(b"not a chunk\r\n" + SMUGGLED)
        assert _all_received(connection) == []
    assert first is not None
    assert first.status == 401


def test_a_body_that_is_wrong_leaves_the_answer_to_who_does_not_need_it(place: Place) -> None:
    raw = b"GET /healthz HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"
    (answer,) = _answers(place, raw + SMUGGLED)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
