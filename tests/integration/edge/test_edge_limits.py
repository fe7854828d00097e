"""The bounds of a connection: callers that are slow, silent, endless or too many. In one process, times shortened."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api.http import protocol
from api.http.framing import HEAD_BYTES
from api.http.protocol import BoundedHttp
from tests.integration.edge.conftest import Answer, received
from tests.support.waiting import PATIENCE_S, wait_until

SHORT_S = 0.3
"""A deadline that is to end something."""

LONG_S = 600.0
"""A deadline that is to end nothing, however busy the machine is."""

LARGE = b"x" * 32_000_000


@dataclass
class Served:
    """A server of the protocol under test; ``go`` lets waiting requests be answered; ``asked``: there is one."""

    server: uvicorn.Server
    port: int
    go: asyncio.Event
    asked: asyncio.Event

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    async def until_connections(self, count: int) -> None:
        await asyncio.to_thread(wait_until, lambda: self.connections == count, f"{count} connections")


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """``/`` answers at once, ``/wait`` when told, ``/large`` with more than sockets hold."""
    for name in ("HEAD_S", "OVERLOADED_HEAD_S", "WRITE_S", "IDLE_S"):
        monkeypatch.setattr(protocol, name, LONG_S)
    monkeypatch.setattr(protocol, "LINGER_S", SHORT_S)
    go, asked = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            asked.set()
            await go.wait()
        body = LARGE if scope["path"] == "/large" else b"ok"
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        if scope["path"] == "/head-first":
            await go.wait()
        await send({"type": "http.response.body", "body": body})

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=BoundedHttp, ws="none", lifespan="off", log_config=None, log_level="error")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.to_thread(wait_until, lambda: server.started, "the server listens")
        yield Served(server, listener.getsockname()[1], go, asked)
        go.set()
        server.should_exit = True
        await running


class Caller:
    """One connection, used without blocking the server's loop."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)

    def send_now(self, raw: bytes) -> None:
        """Send a few bytes before the server's loop goes on."""
        self._socket.sendall(raw)

    async def send(self, raw: bytes) -> None:
        await asyncio.to_thread(self._socket.sendall, raw)

    async def answer(self) -> Answer | None:
        try:
            return await asyncio.to_thread(received, self._socket)
        except ConnectionError:
            return None

    async def some(self) -> bytes:
        """What has come by now, at least a byte."""
        return await asyncio.to_thread(self._socket.recv, 65536)

    async def drip(self, piece: bytes) -> None:
        """Send the piece again and again until the server hangs up."""
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S:
            try:
                await self.send(piece)
            except ConnectionError:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("still listened to")

    def close(self) -> None:
        self._socket.close()


def code_of(answer: Answer | None) -> tuple[int, str]:
    assert answer is not None
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    return answer.status, json.loads(answer.body)["code"]


@pytest.fixture
def short_head(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are waited for only briefly. Before ``caller``: a connection's deadline begins with it."""
    monkeypatch.setattr(protocol, "HEAD_S", SHORT_S)


@pytest.fixture
async def caller(served: Served) -> AsyncIterator[Caller]:
    made = Caller(served.port)
    yield made
    made.close()


@pytest.mark.usefixtures("short_head")
async def test_a_silent_connection_is_closed(served: Served, caller: Caller) -> None:
    assert await caller.answer() is None
    await served.until_connections(0)


@pytest.mark.usefixtures("short_head")
async def test_a_head_that_stops_is_told_so(served: Served) -> None:
    caller = Caller(served.port)
    caller.send_now(b"GET / HTTP/1.1\r\nHost: panel\r\nX-")  # it is there before the deadline begins
    assert code_of(await caller.answer()) == (408, "headers_timeout")
    caller.close()


@pytest.mark.usefixtures("short_head")
@pytest.mark.parametrize(
    ("first", "piece"),
    [(b"GET / HTTP/1.1\r\n", b"X-A: b\r\n"), (b"GET /", b"a"), (b"", b"\r\n")],
    ids=["headers", "request line", "line breaks before a request"],
)
async def test_a_head_that_drips_is_not_waited_for(caller: Caller, first: bytes, piece: bytes) -> None:
    if first:
        await caller.send(first)
    await caller.drip(piece)


async def test_a_second_head_that_drips_is_not_waited_for(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    await caller.send(b"GET / HTTP/1.1\r\nHost: panel\r\n\r\n")
    monkeypatch.setattr(protocol, "HEAD_S", SHORT_S)
    answer = await caller.answer()
    assert answer is not None
    assert answer.status == 200
    await caller.drip(b"G")


async def test_a_body_behind_its_answer_is_not_waited_for(
    served: Served, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.until_connections(1)  # the deadline of its head has begun
    monkeypatch.setattr(protocol, "HEAD_S", SHORT_S)  # for what comes behind the answer
    await caller.send(b"POST / HTTP/1.1\r\nHost: panel\r\nContent-Length: 100000\r\n\r\n")
    answer = await caller.answer()
    assert answer is not None
    assert answer.status == 200
    await caller.drip(b"x")


async def test_a_head_behind_a_request_that_takes_long_does_not_cut_it(
    served: Served, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await caller.send(b"GET /wait HTTP/1.1\r\nHost: panel\r\n\r\n")
    await served.asked.wait()
    monkeypatch.setattr(protocol, "HEAD_S", SHORT_S)
    await caller.send(b"GET / HT")
    await asyncio.sleep(3 * SHORT_S)  # the deadline itself is what is tried
    served.go.set()
    answer = await caller.answer()
    assert answer is not None
    assert answer.status == 200


async def test_a_head_does_not_wait_for_a_body_that_takes_long(served: Served, caller: Caller) -> None:
    """As with a stream of changes: its page is to know at once that it is open."""
    await caller.send(b"GET /head-first HTTP/1.1\r\nHost: panel\r\n\r\n")
    assert (await caller.some()).startswith(b"HTTP/1.1 200")
    served.go.set()
    assert await caller.some() == b"ok"


async def test_a_head_without_an_end_is_cut(caller: Caller) -> None:
    await caller.send(b"GET / HTTP/1.1\r\nX-Endless: " + b"a" * HEAD_BYTES)
    assert code_of(await caller.answer()) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: panel\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(2_000)) + b"\r\n",
    ],
    ids=["a long path", "many headers"],
)
async def test_a_head_that_is_too_large_is_refused(caller: Caller, raw: bytes) -> None:
    await caller.send(raw)
    assert code_of(await caller.answer()) == (431, "headers_too_large")


async def test_a_head_as_large_as_allowed_is_served(caller: Caller) -> None:
    frame = b"GET / HTTP/1.1\r\nHost: panel\r\nAuthorization: %s\r\n\r\n"
    await caller.send(frame % (b"a" * (HEAD_BYTES - 128)))
    answer = await caller.answer()
    assert answer is not None
    assert answer.status == 200


async def test_a_caller_that_does_not_read_is_dropped(
    served: Served, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "WRITE_S", SHORT_S)
    await caller.send(b"GET /large HTTP/1.1\r\nHost: panel\r\n\r\n")
    await served.until_connections(0)
    assert not served.server.server_state.tasks


async def test_too_many_connections_are_told_to_come_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)
    monkeypatch.setattr(protocol, "CONNECTIONS_AT_ALL", 4)
    ask = b"GET /wait HTTP/1.1\r\nHost: panel\r\n\r\n"
    busy = [Caller(served.port) for _ in range(3)]
    for one in busy:
        await one.send(ask)
    await served.until_connections(3)

    surplus = Caller(served.port)
    await surplus.send(b"GET / HTTP/1.1\r\nHost: panel\r\n\r\n")
    answer = await surplus.answer()
    assert code_of(answer) == (503, "overloaded")
    assert answer is not None
    assert answer.headers["retry-after"] == "1"
    await served.until_connections(3)

    silent = Caller(served.port)
    await served.until_connections(4)
    beyond = Caller(served.port)
    assert await beyond.answer() is None, "closed unread"
    silent.close()
    await served.until_connections(3)
    monkeypatch.setattr(protocol, "OVERLOADED_HEAD_S", SHORT_S)
    silent = Caller(served.port)
    assert await silent.answer() is None, "a surplus connection that asks nothing is soon gone"

    served.go.set()
    assert [answer.status for answer in [await one.answer() for one in busy] if answer] == [200] * 3
    for one in (*busy, surplus, silent, beyond):
        one.close()
    await served.until_connections(0)
    late = Caller(served.port)
    await late.send(b"GET / HTTP/1.1\r\nHost: panel\r\n\r\n")
    answer = await late.answer()
    late.close()
    assert answer is not None
    assert answer.status == 200, "it recovers"


async def test_streams_take_no_connection_of_other_callers(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS", 1)
    served.server.lifespan.state["open_streams"] = lambda: 2
    streams, callers = [Caller(served.port) for _ in range(2)], []
    for stream in streams:
        await stream.send(b"GET /wait HTTP/1.1\r\nHost: panel\r\n\r\n")
    await served.until_connections(2)
    statuses = []
    for _ in range(2):
        callers.append(Caller(served.port))
        await callers[-1].send(b"GET / HTTP/1.1\r\nHost: panel\r\n\r\n")
        answer = await callers[-1].answer()
        assert answer is not None
        statuses.append(answer.status)
    assert statuses == [200, 503], "one connection beside the two streams"
    served.go.set()
    for one in (*streams, *callers):
        one.close()


async def test_idle_connections_are_closed_sooner_in_a_crowd(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)  # more than one is a crowd
    monkeypatch.setattr(protocol, "CROWDED_IDLE_S", 0.1)
    ask = b"GET / HTTP/1.1\r\nHost: panel\r\n\r\n"
    busy = Caller(served.port)  # so that the last idle one is in a crowd, too, should the others be gone by then
    await busy.send(b"GET /wait HTTP/1.1\r\nHost: panel\r\n\r\n")
    await served.asked.wait()
    callers = [Caller(served.port) for _ in range(2)]
    await served.until_connections(3)
    for one in callers:
        await one.send(ask)
        answer = await one.answer()
        assert answer is not None
        assert answer.status == 200
    await served.until_connections(1)
    served.go.set()
    answer = await busy.answer()
    assert answer is not None
    assert answer.status == 200, "one that is not idle is kept"
    for one in (busy, *callers):
        one.close()
