"""Connections that obey the limits of the exchange they work for: how long it may take, how many bytes may arrive.

The HTTP library's timeouts count per read: a head that comes byte by byte, or endless interim answers, never reach
them. A connection outlives an exchange, so each operation looks up the current one.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import httpcore

from sources.outgoing.faults import Malformed, PrivateAddress, TimedOut, Unreachable
from sources.outgoing.public_addresses import is_public

HEAD_BYTES = 256 * 1024
"""For an answer's head, with the interim answers (1xx) before it and a proxy's own answer. Real ones have a few KB."""

UNACKNOWLEDGED_MS = 10_000
"""For so long the system tries to deliver what was written."""

NOTHING_ARRIVES_LATER: tuple[tuple[int, int, int | bytes], ...] = (
    (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS),
)
"""A closed connection is forgotten at once. Otherwise the system would go on to send what was written, for a minute or
longer: a command that was given up would arrive once the network is back."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one exchange, in seconds and bytes.

    ``connect_s``: to the end of the TLS handshake. ``read_s``: the longest silence. ``answer_s``: everything, from the
    name look-up to the last byte. ``body_bytes``: of the body, both as it arrives and after decompression.
    """

    connect_s: float
    read_s: float
    answer_s: float
    body_bytes: int


class Exchange:
    """One request and its answer on the wire: how much time and how many bytes are left."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._ends = time.monotonic() + limits.answer_s
        self._bytes_left = HEAD_BYTES
        self._larger = "the answer's head is larger than it may be"

    def left_s(self, at_most: float | None = None) -> float:
        """Seconds that an operation may take. Raises ``TimedOut`` if none are left."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimedOut(f"the answer took longer than {self.limits.answer_s:g} s")
        return left if at_most is None else min(left, at_most)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends

    def count_bytes(self, count: int) -> None:
        """Count bytes that arrived. Raises ``Malformed`` if there were too many."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise Malformed(self._larger)

    def body_begins(self, body_bytes: int) -> None:
        """The head has arrived. A chunked body may be twice as large on the wire, because each chunk has a head."""
        self._bytes_left = 2 * body_bytes + HEAD_BYTES
        self._larger = f"the answer is larger than {body_bytes} bytes"


_current: ContextVar[Exchange] = ContextVar("exchange")


@contextmanager
def as_current_exchange(exchange: Exchange) -> Iterator[None]:
    """Make this the exchange that this thread's connections work for."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)


def current_exchange() -> Exchange:
    """The exchange that this thread works for."""
    return _current.get()


class BoundedBackend(httpcore.NetworkBackend):
    """Connects within the exchange's time, with the name look-up included. ``public_only``: to public addresses."""

    def __init__(self, *, public_only: bool = False) -> None:
        self._plain = httpcore.SyncBackend()
        self._public_only = public_only

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Try each address of the host with its share of the time left."""
        ends = time.monotonic() + current_exchange().left_s(timeout)
        options = [*(socket_options or ()), *NOTHING_ARRIVES_LATER]
        addresses = _addresses(host, port, ends - time.monotonic())
        if self._public_only and not (addresses := [address for address in addresses if is_public(address)]):
            raise PrivateAddress("it has no public address, so nothing was sent")
        failure: Exception = httpcore.ConnectTimeout()
        for number, address in enumerate(addresses):
            share = (ends - time.monotonic()) / (len(addresses) - number)
            if share <= 0:
                break
            try:
                plain = self._plain.connect_tcp(address, port, share, local_address, options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return BoundedStream(plain)
        raise failure


class BoundedStream(httpcore.NetworkStream):
    """A connection whose reads and writes end with the exchange's time and whose bytes are counted."""

    def __init__(self, plain: httpcore.NetworkStream) -> None:
        self._plain = plain

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        exchange = current_exchange()
        received = self._plain.read(max_bytes, exchange.left_s(timeout))
        exchange.count_bytes(len(received))
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._plain.write(buffer, current_exchange().left_s(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return BoundedStream(self._plain.start_tls(ssl_context, server_hostname, current_exchange().left_s(timeout)))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the library's own
        return self._plain.get_extra_info(info)

    def close(self) -> None:
        self._plain.close()


def _addresses(host: str, port: int, left_s: float) -> list[str]:
    """The host's addresses. The system's look-up has no timeout, so it runs in a thread of its own."""
    try:
        ip_address(host)
    except ValueError:
        answers = SimpleQueue[list[str] | Exception]()
        Thread(target=_look_up, args=(host, port, answers), name="look-up of a name", daemon=True).start()
        try:
            answer = answers.get(timeout=max(0.0, left_s))
        except Empty:
            raise Unreachable("its name was not looked up in time") from None
        if isinstance(answer, Exception):
            raise Unreachable("its name cannot be looked up") from answer
        return answer
    return [host]


def _look_up(host: str, port: int, answers: SimpleQueue[list[str] | Exception]) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # ValueError: a name that IDNA does not allow
        answers.put(error)
    else:
        answers.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
