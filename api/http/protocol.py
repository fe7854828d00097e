"""One HTTP/1.1 connection: one request at a time, bounded in size and time, and an orderly end.

:mod:`api.http.framing` reads the requests. uvicorn runs the application and writes its answers, but its own parser is
not used: docs/adr/0017 says why. :mod:`api.http.bodies` bounds the reading of bodies, and reads and commits of the
database have deadlines. So no caller can hold a connection for longer than the sum of these limits, but for
streams of live changes, which have a limit of their own.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Literal, cast

import structlog
from starlette.types import Receive, Scope, Send
from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent, HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.http.addresses import address_of
from api.http.bodies import HAS_ARRIVED
from api.http.framing import Body, Head, InvalidHttpError, body_of, take_head
from api.http.middleware import RequestContext
from api.http.problems import ProblemResponse, problem_body

log = structlog.get_logger(__name__)

# Streams of live changes do not count here: they have a limit of their own (api/client/live_changes.py), so that open
# pages never take the connections of sync calls.
CONNECTIONS = 512  # more are answered 503
CONNECTIONS_AT_ALL = 768  # more are closed unread
# From the connection, or a request's first byte, to the end of its headers. Also for the rest of a body whose request
# is answered already.
HEAD_S = 10.0
OVERLOADED_HEAD_S = 1.0  # for connections that are only answered 503
WRITE_S = 10.0  # for a caller that does not read its answer
IDLE_S = 65.0  # between requests: longer than proxies keep theirs, so that no proxy posts into a closing connection
CROWDED_IDLE_S = 1.0  # while more than half of the connections are taken
LINGER_S = 2.0  # from the last answer to the end of a connection whose caller keeps sending
PEER_LOST_MS = 15_000  # for unacknowledged bytes, also on a closing connection

Wait = Literal["head", "rest", "next", "end"]
"""What a connection waits for while no answer is due: a request's head, the rest of a body that was answered already,
the next request, or the caller's end of the connection."""


class Exchange(RequestResponseCycle):
    """One request and its one answer."""

    fault: InvalidHttpError | None = None
    """What is wrong with the body. Code that reads the body gets it; an answer that does not need the body is
    unchanged.
    """

    def has_whole_body(self) -> bool:
        """Whether there is nothing to wait for in ``receive``, and nothing wrong."""
        return not self.more_body and self.fault is None

    async def receive(self) -> ASGIReceiveEvent:
        """The next part of the body. Raises InvalidHttpError."""
        if self.fault is None:
            message = await super().receive()
        if self.fault is not None:
            raise self.fault
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Write a part of the answer."""
        if self.waiting_for_100_continue and not self.response_started:
            self.keep_alive = False  # the caller may or may not still send the body
        cast("_AnswerTransport", self.transport).holds = message["type"] == "http.response.start"
        await super().send(message)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol with another parser and with deadlines. Its refusals are problem documents, too."""

    cycle: Exchange

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = None  # type: ignore[assignment]  # uvicorn's own parser; it would get no bytes
        self._buffer = bytearray()  # bytes that arrived and were not read yet
        self._body: Body | None = None  # of the current request, until it is complete
        self._drops_input = False
        self._wait: Wait | None = None
        self._wait_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._surplus = False  # True: one connection too many, so its requests are only answered 503
        self._answer_transport: asyncio.Transport

    # --- a connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection, or close it at once if there are far too many."""
        super().connection_made(transport)
        if self.client is not None:  # an IPv4 caller of an IPv6 socket gets the address that a list of proxies names
            self.client = (address_of(self.client[0]) or self.client[0], self.client[1])
        taken = self._taken()
        if taken > CONNECTIONS_AT_ALL:
            transport.abort()
            return
        self._surplus = taken > CONNECTIONS
        self._answer_transport = cast("asyncio.Transport", _AnswerTransport(self))
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_LOST_MS)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._drops_input = True
        self._wait_for(None)
        self._stop_write_timer()
        super().connection_lost(exc)

    def _taken(self) -> int:
        """How many connections are open, but for streams."""
        open_streams = self.app_state.get("open_streams")
        return len(self.connections) - (open_streams() if open_streams is not None else 0)

    def shutdown(self) -> None:
        """The server is ending: calls that wait for their outcome are answered now."""
        release = self.app_state.get("release_waiting")
        if release is not None:
            release()
        super().shutdown()

    def end(self) -> None:
        """End the connection after the last answer. For at most LINGER_S it stays open and drops arriving bytes:
        closing it with unread bytes would discard an answer that the caller has not read (RFC 9112, 9.6)."""
        if self._wait == "end":
            return
        self._drops_input = True
        self._buffer.clear()
        self._wait_for("end")
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()

    # --- requests

    def data_received(self, data: bytes) -> None:
        """Read what has arrived."""
        if self._drops_input:
            return
        self._buffer += data
        self._read()

    def on_response_complete(self) -> None:
        """Continue with the bytes after the request that was just answered."""
        cast("_AnswerTransport", self._answer_transport).flush()  # before anything of the next answer
        self.server_state.total_requests += 1
        if self._drops_input or self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._read()

    def _read(self) -> None:
        """Read to the end of one request. Bytes after it wait until its answer is out."""
        try:
            self._read_body()
            if self._body is None and not self._answering() and (head := take_head(self._buffer)) is not None:
                self._begin(head)
                self._read_body()
            if self._body is None and self._answering() and self._buffer:
                self.flow.pause_reading()
        except InvalidHttpError as error:
            self._refuse(error)
        self._set_deadline()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _begin(self, head: Head) -> None:
        scope: HTTPScope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": head.version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,  # type: ignore[typeddict-item]  # set with the connection
            "method": head.method,
            "root_path": self.root_path,
            "path": self.root_path + head.path,
            "raw_path": self.root_path.encode("ascii") + head.raw_path,
            "query_string": head.query,
            "headers": head.headers,
            "state": self.app_state.copy(),
        }
        self._body = body_of(head)
        self.cycle = Exchange(
            scope=scope,
            transport=self._answer_transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=head.continues,
            keep_alive=head.keeps,
            on_response=self.on_response_complete,
        )
        cast("Scope", scope)[HAS_ARRIVED] = self.cycle.has_whole_body
        self._start_asgi_task(self.cycle, _OVERLOADED if self._surplus else self.app)

    def _read_body(self) -> None:
        """Read the current request's body. It is dropped if the answer is out already."""
        if self._body is None:
            return
        content = self._body.take(self._buffer)
        complete = self._body.complete
        if complete:
            self._body = None
        if self.cycle.response_complete:
            return
        self.cycle.body += content
        self.cycle.more_body = not complete
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        if content or complete:
            self.cycle.message_event.set()

    # --- an answer

    def pause_writing(self) -> None:
        """The caller does not read. Give it a while, then drop the connection with the unsent answer."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    # --- deadlines

    def _set_deadline(self) -> None:
        """Set the deadline for what the connection waits for now. A running deadline is not moved by bytes that
        arrive."""
        if self._wait == "end":
            return
        if self._answering():
            self._wait_for(None)  # the application bounds its own waits
        elif self._body is not None:
            self._wait_for("rest")
        else:
            self._wait_for("head" if self._buffer or self.cycle is None else "next")

    def _wait_for(self, what: Wait | None) -> None:
        if what == self._wait:
            return
        self._wait = what
        if self._wait_timer is not None:
            self._wait_timer.cancel()
        self._wait_timer = None if what is None else self.loop.call_later(self._limit_s(what), self._too_late)

    def _limit_s(self, what: Wait) -> float:
        match what:
            case "head":
                return OVERLOADED_HEAD_S if self._surplus else HEAD_S
            case "rest":
                return HEAD_S
            case "next":
                return CROWDED_IDLE_S if self._taken() > CONNECTIONS // 2 else IDLE_S
            case "end":
                return LINGER_S

    def _too_late(self) -> None:
        if self._wait == "head" and self._buffer:
            self._refuse(InvalidHttpError(f"The headers did not arrive within {HEAD_S:.0f} s", 408, "headers_timeout"))
        elif not self.transport.is_closing():
            self.transport.close()

    # --- refusals of bytes that cannot become a request

    def _refuse(self, error: InvalidHttpError) -> None:
        """Refuse unreadable bytes. If they belong to a request, that request's own answer is the only one."""
        self._drops_input = True
        self._buffer.clear()
        if self._answering():
            self.cycle.fault = error
            self.cycle.keep_alive = False
            self.cycle.message_event.set()
            return
        if self._body is None:
            log.info("http_refused", code=error.code, reason=error.message, address=self.client and self.client[0])
            answer = ProblemResponse(
                problem_body(error.status_code, error.code, error.message, "", None), error.status_code
            )
            lines = [b"%s: %s" % header for header in [*self.server_state.default_headers, *answer.raw_headers]]
            head = [f"HTTP/1.1 {error.status_code} {_PHRASES[error.status_code]}".encode(), *lines, *_ALWAYS, b"", b""]
            self.transport.write(b"\r\n".join(head) + bytes(answer.body))
        self.end()


class _AnswerTransport:
    """The transport that uvicorn writes an answer to. Its ``close`` ends the connection in good order.

    uvicorn writes the head and the body one by one. While it ``holds``, what is written waits for the next write, or
    for the event loop's next turn: nearly every answer leaves in one piece.
    """

    holds = False

    def __init__(self, protocol: BoundedHttp) -> None:
        self._protocol = protocol
        self._held = b""
        self.is_closing = protocol.transport.is_closing

    def write(self, data: bytes) -> None:
        self._held += data
        if self.holds:
            self._protocol.loop.call_soon(self.flush)
        else:
            self.flush()

    def close(self) -> None:
        self.flush()
        self._protocol.end()

    def flush(self) -> None:
        """Send what is held. An answer to HEAD has no body, so no further write would send it."""
        held, self._held = self._held, b""
        if held and not self.is_closing():
            self._protocol.transport.write(held)


_PHRASES = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}
_ALWAYS = (b"connection: close", b"cache-control: no-store", b"x-content-type-options: nosniff")


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers 503 and ends the connection."""
    message = "Too many connections; nothing was accepted, try again"
    body = problem_body(503, "overloaded", message, scope["path"], scope["request_id"])
    answer = ProblemResponse(body, 503, headers={"Connection": "close", "Retry-After": "1"})
    await answer(scope, receive, send)


_OVERLOADED = cast("ASGI3Application", RequestContext(_overloaded))
