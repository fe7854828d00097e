"""The load generator: what it sends, what it takes for an answer, and what it refuses."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.measuring.load import UnexpectedAnswerError, burst, quantile, request

CALL = request("POST", "/x", {"X-API-Key": "k"}, b'{"a":1}')
BODY = b"b" * 300_000
"""More than one read."""


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """Answers each request with these bytes, in two pieces."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(ConnectionError):  # the load is over
                while connection.recv(65_536):
                    connection.sendall(answer[:20])
                    connection.sendall(answer[20:])

        def listen() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        accepting = threading.Thread(target=listen, daemon=True)
        accepting.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join()


def head(status: str, length: int) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n".encode()


def test_every_request_is_answered_once() -> None:
    with server(head("202 Accepted", len(BODY)) + BODY) as port:
        sent = burst(port, itertools.repeat(CALL, 20), connections=3)
    assert sent.bodies == [BODY] * 20
    assert len(sent.waited_s) == 20
    assert sent.rate > 0


def test_an_answer_without_a_body_ends_with_its_head() -> None:
    with server(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n") as port:
        assert burst(port, itertools.repeat(CALL, 2), connections=1, status=304).bodies == [b"", b""]


def test_another_status_ends_it() -> None:
    with (
        server(head("503 Service Unavailable", 2) + b"no") as port,
        pytest.raises(UnexpectedAnswerError, match="503 Service Unavailable"),
    ):
        burst(port, itertools.repeat(CALL), connections=2)


def test_at_a_rate_each_wait_counts_from_when_the_request_was_due() -> None:
    seen = []
    with server(head("202 Accepted", 2) + b"ok") as port:
        sent = burst(
            port, itertools.repeat(CALL, 10), connections=1, rate=1_000, answered=lambda _, due: seen.append(due)
        )
    assert [round(later - seen[0], 6) for later in seen] == [round(number / 1_000, 6) for number in range(10)]
    assert min(sent.waited_s) >= 0


def test_a_request_says_how_long_its_body_is() -> None:
    assert CALL == (
        b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: k\r\n"
        b'Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'
    )
    assert request("GET", "/y") == b"GET /y HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    ("numbers", "share", "quantile_"),
    [([1.0], 0.5, 1.0), ([4.0, 1.0, 3.0, 2.0], 0.5, 3.0), (list(map(float, range(1, 101))), 0.95, 96.0)],
)
def test_quantiles(numbers: list[float], share: float, quantile_: float) -> None:
    assert quantile(numbers, share) == quantile_
