"""A server that sends exactly the bytes it is told to, for what no well-behaved server would send."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Send = Callable[[socket.socket, threading.Event], None]


class RawServer:
    """Context manager on a free loopback port.

    Each request is answered by ``sends`` in turn (the last for good), then the connection is closed.
    ``heads`` are the request heads as they arrived; ``connections`` counts accepted ones.
    """

    def __init__(self, *sends: Send | bytes, tls: ssl.SSLContext | None = None) -> None:
        self._sends = sends
        self._tls = tls
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.heads: list[str] = []
        self.connections = 0

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            with accepted, contextlib.suppress(OSError):
                self.connections += 1
                self._answer(accepted)

    def _answer(self, accepted: socket.socket) -> None:
        accepted.settimeout(120)
        connection = accepted if self._tls is None else self._tls.wrap_socket(accepted, server_side=True)
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                received = connection.recv(65536)
                if not received:
                    return
                head += received
            self.heads.append(head.decode("latin-1"))
            send = self._sends[min(len(self.heads), len(self._sends)) - 1]
            if isinstance(send, bytes):
                connection.sendall(send)
            else:
                send(connection, self._over)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(120)


def http(
    body: bytes = b"",
    *,
    status: str = "200 OK",
    length: int | None = None,
    content_type: str = "application/json",
    extra: str = "",
) -> bytes:
    """An answer as it goes over the wire; ``length`` is what it claims to have."""
    told = len(body) if length is None else length
    typed = f"Content-Type: {content_type}\r\n" if content_type else ""
    # Said, because it is so: a caller that kept the connection would send its next request into the closing one.
    fixed = "Date: Sun, 01 Mar 2026 12:00:00 GMT\r\nConnection: close\r\n"
    head = f"HTTP/1.1 {status}\r\n{fixed}{typed}Content-Length: {told}\r\n{extra}\r\n"
    return head.encode("ascii") + body
