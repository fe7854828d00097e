"""HTTP requests as fast as they are answered, or at a rate: one thread, epoll, prepared bytes.

What it costs for each request is a few microseconds, so that the server is the bottleneck. ``python -m benchmarks``
shows that first, against a server that only answers.
"""

from __future__ import annotations

import heapq
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

_END = b"\r\n\r\n"
_PATIENCE_S = 30.0


@dataclass(slots=True)
class Burst:
    """What was answered: bodies in the order of the answers, seconds from when each request was due."""

    took_s: float = 0.0
    bodies: list[bytes] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.bodies) / self.took_s


class UnexpectedAnswerError(RuntimeError):
    """A server answered something else than it should."""


@dataclass(slots=True)
class _Connection:
    sock: socket.socket
    received: bytearray = field(default_factory=bytearray)
    length: int = -1
    """Bytes of the whole answer; -1 until its head has come."""
    due: float = 0.0


def request(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + _END + body


def burst(
    port: int,
    requests: Iterable[bytes],
    *,
    connections: int,
    seconds: float = float("inf"),
    rate: float | None = None,
    status: int = 202,
    answered: Callable[[bytes, float], None] | None = None,
    idle: Callable[[], None] | None = None,
) -> Burst:
    """Send for so many seconds, or until the requests end. Each answer must have the status.

    ``rate``: requests a second, whether earlier ones were answered or not; without it, each connection sends as soon
    as it has its answer. ``answered`` is called with each body, and when its request was due. ``idle`` is called again
    and again, some hundred times a second or more.
    """
    load = _Load(port, iter(requests), connections, status, rate, answered)
    try:
        return load.run(seconds, idle)
    finally:
        load.close()


class _Load:
    def __init__(
        self,
        port: int,
        requests: Iterator[bytes],
        connections: int,
        status: int,
        rate: float | None,
        answered: Callable[[bytes, float], None] | None,
    ) -> None:
        self._requests, self._rate, self._answered = requests, rate, answered
        self._expected = b"HTTP/1.1 %d " % status
        self._poll = select.epoll()
        self._by_fd: dict[int, _Connection] = {}
        self._free = deque[_Connection]()
        self._more = True
        self._sent = 0
        self.result = Burst()
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)  # noqa: FBT003 - the standard library's
            self._poll.register(sock.fileno(), select.EPOLLIN)
            connection = _Connection(sock)
            self._by_fd[sock.fileno()] = connection
            self._free.append(connection)

    def close(self) -> None:
        self._poll.close()
        for connection in self._by_fd.values():
            connection.sock.close()

    def run(self, seconds: float, idle: Callable[[], None] | None) -> Burst:
        self._began = began = time.perf_counter()
        self._until = began + seconds
        heard = began
        while True:
            self._send()
            if len(self._free) == len(self._by_fd) and not self._more:
                break
            pause = 1.0 if idle is None and self._rate is None else 0.001
            events = self._poll.poll(pause)
            now = time.perf_counter()
            if events:
                heard = now
            elif now - heard > _PATIENCE_S:
                raise UnexpectedAnswerError(f"no answer for {_PATIENCE_S:g} s")
            for fd, _ in events:
                self._receive(self._by_fd[fd], now)
            if idle is not None:
                idle()
        self.result.took_s = time.perf_counter() - began
        return self.result

    def _send(self) -> None:
        while self._more and self._free:
            now = time.perf_counter()
            if now >= self._until:
                self._more = False
                return
            due = now if self._rate is None else self._began + self._sent / self._rate
            if due > now:
                return
            following = next(self._requests, None)
            if following is None:
                self._more = False
                return
            connection = self._free.popleft()
            connection.due = due
            connection.sock.sendall(following)  # some hundred bytes: they always fit
            self._sent += 1

    def _receive(self, connection: _Connection, now: float) -> None:
        data = connection.sock.recv(262_144)
        if not data:
            raise UnexpectedAnswerError("the server closed a connection")
        connection.received += data
        received = connection.received
        if connection.length < 0:
            head = received.find(_END)
            if head < 0:
                return
            if not received.startswith(self._expected):
                raise UnexpectedAnswerError(bytes(received[:2000]).decode(errors="replace"))
            connection.length = head + len(_END) + _content_length(bytes(received[:head]))
        if len(received) < connection.length:
            return
        body = bytes(received[received.find(_END) + len(_END) :])
        self.result.bodies.append(body)
        self.result.waited_s.append(now - connection.due)
        received.clear()
        connection.length = -1
        self._free.append(connection)
        if self._answered is not None:
            self._answered(body, connection.due)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0  # as of 304


def quantile(numbers: Iterable[float], share: float) -> float:
    """The smallest number that this share of them does not exceed; NaN of nothing."""
    ordered = list(numbers)
    if not ordered:
        return float("nan")
    above = max(1, len(ordered) - int(share * len(ordered)))
    return heapq.nlargest(above, ordered)[-1]
