"""Connections that obey the limits of the exchange they work for.

The HTTP library's timeouts count per read: a head that comes byte by byte, or endless interim answers, never reach
them. A connection outlives an exchange, so each operation looks up the current one.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import httpcore

from sources.outgoing.faults import Unreachable
from sources.outgoing.limits import current_exchange


class BoundedBackend(httpcore.NetworkBackend):
    """Connects within the exchange's time, with the name look-up included."""

    def __init__(self) -> None:
        self._plain = httpcore.SyncBackend()

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
        addresses = _addresses(host, port, ends - time.monotonic())
        failure: Exception = httpcore.ConnectTimeout()
        for number, address in enumerate(addresses):
            share = (ends - time.monotonic()) / (len(addresses) - number)
            if share <= 0:
                break
            try:
                plain = self._plain.connect_tcp(address, port, share, local_address, socket_options)
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
        exchange.took(len(received))
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
