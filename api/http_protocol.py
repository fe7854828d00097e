"""HTTP/1.1 with bounds: connections, the size and time of a request's head, the time of a slow reader.

uvicorn bounds none of them. Bodies are bounded where they are read (:mod:`api.bodies`), reads and commits where they
are done, so that nobody can hold a connection for longer than these limits together.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.middleware import RequestContext
from api.problems import ProblemResponse, problem_body

CONNECTIONS = 512  # more are answered 503; within the 1024 open files that a process usually may have
CONNECTIONS_AT_ALL = 768  # more are closed unread
HEAD_BYTES = 16 * 1024  # request line and headers; the largest token that is accepted has 8 KB
HEAD_S = 10.0  # from a connection, or a request's first byte, to the end of its headers
OVERLOADED_HEAD_S = 1.0  # for connections that are only told to come again
WRITE_S = 10.0  # a caller that does not read its answer
IDLE_S = 65  # kept open between requests: longer than proxies keep theirs, so that none posts into a closing one
CROWDED_IDLE_S = 1  # once half of the connections are taken
PEER_LOST_MS = 15_000  # unacknowledged bytes, a closing connection's too


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol with deadlines; what is refused here is a problem document like any other error."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._served = self.app
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._surplus = False

    # --- a connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection, or close it at once if there are far too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_AT_ALL:
            transport.abort()
            return
        self._surplus = len(self.connections) > CONNECTIONS
        plain = transport.get_extra_info("socket")
        if plain is not None and plain.family in {socket.AF_INET, socket.AF_INET6}:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_LOST_MS)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._head_arrived()
        self._written()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends: whoever waits for an outcome is answered now, with what is known."""
        release = self.app_state.get("release_waiting")
        if release is not None:
            release()
        super().shutdown()

    # --- a request's head

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head that does not end is bounded in size and time, whatever it consists of."""
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()
        super().data_received(data)
        if self._head_timer is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, "headers_too_large", _HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:  # behind a request that is not answered yet
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_arrived()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES:
            self.app = _answering(431, "headers_too_large", _HEAD_TOO_LARGE)
        elif self._surplus:
            self.app = _answering(503, "overloaded", "Too many connections; nothing was accepted, try again")
        else:
            self.app = self._served
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        crowded = len(self.connections) > CONNECTIONS // 2
        self.timeout_keep_alive = CROWDED_IDLE_S if crowded else IDLE_S
        super().on_response_complete()

    def _expect_head(self) -> None:
        self._head_bytes = 0
        within_s = OVERLOADED_HEAD_S if self._surplus else HEAD_S
        self._head_timer = self.loop.call_later(within_s, self._head_is_late)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_head()  # the request before it is still being answered
        elif self._head_bytes:
            self._refuse(408, "headers_timeout", f"The headers did not arrive within {HEAD_S:.0f} s")
        elif not self.transport.is_closing():
            self.transport.close()  # a connection that never asked

    # --- an answer

    def pause_writing(self) -> None:
        """The caller does not read: give it a while, then drop it and what it was to get."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._written()
        super().resume_writing()

    def _written(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    # --- refusals of what never becomes a request

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed as HTTP."""
        self._refuse(400, "invalid_http", msg.removesuffix("."))

    def _refuse(self, status_code: int, code: str, message: str) -> None:
        """Write the refusal and close; only close where an answer is under way already."""
        self._head_arrived()
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            answer = ProblemResponse(problem_body(status_code, code, message, "", None), status_code)
            lines = [b"%s: %s" % header for header in [*self.server_state.default_headers, *answer.raw_headers]]
            head = [f"HTTP/1.1 {status_code} {_PHRASES[status_code]}".encode(), *lines, *_ALWAYS, b"", b""]
            self.transport.write(b"\r\n".join(head) + bytes(answer.body))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing here can be upgraded; RFC 9110 lets a server ignore the wish, which is no news for the log."""


_PHRASES = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}
_HEAD_TOO_LARGE = f"The request line and headers must not exceed {HEAD_BYTES} bytes"
_ALWAYS = (b"connection: close", b"cache-control: no-store", b"x-content-type-options: nosniff")


def _answering(status_code: int, code: str, message: str) -> ASGIApp:
    """An application that says only this, and then closes the connection."""
    headers = {"Connection": "close"} | ({"Retry-After": "1"} if status_code == 503 else {})

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        body = problem_body(status_code, code, message, scope["path"], scope["request_id"])
        await ProblemResponse(body, status_code, headers=headers)(scope, receive, send)

    return RequestContext(answer)
