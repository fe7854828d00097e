"""A connection to the API's protocol without a network: bytes go in as reads, answers come out."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from api.http.framing import HEAD_BYTES, InvalidHttpError
from api.http.protocol import BoundedHttp
from tests.fuzz.model import is_blind

ROUNDS = 12  # of the event loop, in which everything that an arriving byte causes has happened


class Wire(asyncio.Transport):
    """What the protocol takes for a socket."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 80)})
        self.written = b""
        self.paused = self.ended = self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "written behind the end"
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.ended = self.closing = True

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Asked:
    """The application: it tells each request apart by its path, reads the bodies of half of them, and remembers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes, bytes | None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: bytes = scope["raw_path"]
        body: bytes | None = None
        if not is_blind(path):
            body, more = b"", True
            while more:
                try:
                    message = await receive()
                except InvalidHttpError as error:
                    await _answer(send, error.status_code, b"")
                    return
                if message["type"] == "http.disconnect":
                    return
                body += message["body"]
                more = message["more_body"]
        self.requests.append((scope["method"], path, body))
        read = b"unread" if body is None else hashlib.sha256(body).hexdigest().encode()
        await _answer(send, 200, path + b" " + read)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server:
    """Makes connections. One per event loop."""

    def __init__(self) -> None:
        self.asked = Asked()
        self.state = ServerState()
        self.config = uvicorn.Config(
            self.asked, http=BoundedHttp, ws="none", lifespan="off", proxy_headers=False, log_config=None
        )
        self.config.load()

    async def answers_to(self, reads: Sequence[bytes]) -> tuple[bytes, list[tuple[str, bytes, bytes | None]]]:
        """All that the server writes when these arrive one after the other, and then the end; what was asked of the
        application meanwhile."""
        self.asked.requests = []
        wire = Wire()
        protocol = BoundedHttp(self.config, self.state, {}, asyncio.get_running_loop())
        protocol.connection_made(wire)
        largest = max(map(len, reads), default=0)
        waiting = list(reads)
        while waiting and not wire.closing:
            if not wire.paused:
                protocol.data_received(waiting.pop(0))
                assert len(held(protocol)) <= HEAD_BYTES + 4 + largest, "more is kept than one read and a head"
            if self.state.tasks:
                await _run_pending(2)
        await _run_pending()
        protocol.eof_received()
        wire.close()
        protocol.connection_lost(None)
        await _run_pending()
        assert not self.state.tasks, "a request that does not end with its connection"
        assert not self.state.connections
        return wire.written, self.asked.requests


def held(protocol: Any) -> bytearray:
    """What has arrived and was not read yet."""
    buffer: bytearray = protocol._buffer
    return buffer


async def _run_pending(rounds: int = ROUNDS) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)
