"""A TCP proxy that can go silent: connections stay open, new ones are accepted, and no byte passes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator

from runtime.processes.free_ports import LOOPBACK

CHUNK = 65_536
LOOK_S = 0.05


class TcpProxy:
    """Forwards to one port of the loopback. Any thread may call ``partition`` and ``heal``."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._ended = threading.Event()
        self._sockets: set[socket.socket] = set()  # the open ones
        threading.Thread(target=self._accept, name="tcp-proxy", daemon=True).start()

    def partition(self) -> None:
        """Let no byte pass in either direction. Neither side gets an error."""
        self._open.clear()

    def heal(self) -> None:
        """Let bytes pass again. The bytes that were held back arrive now."""
        self._open.set()

    def close(self) -> None:
        """End the proxy and all its connections."""
        self._ended.set()
        self._open.set()
        for open_socket in (self._listener, *list(self._sockets)):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.add(caller)
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        self._open.wait()
        with caller, contextlib.suppress(OSError):
            with socket.create_connection((LOOPBACK, self._target_port), timeout=2) as target:
                target.settimeout(None)
                self._sockets.add(target)
                self._forward(caller, target)
            self._sockets.discard(target)
        self._sockets.discard(caller)

    def _forward(self, caller: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as ready:
            ready.register(caller, selectors.EVENT_READ)
            ready.register(target, selectors.EVENT_READ)
            while not self._ended.is_set():
                for key, _ in ready.select(LOOK_S):
                    self._open.wait()
                    source, sink = (caller, target) if key.fileobj is caller else (target, caller)
                    if not (chunk := source.recv(CHUNK)):
                        return
                    sink.sendall(chunk)


@contextlib.contextmanager
def tcp_proxy(target_port: int) -> Iterator[TcpProxy]:
    """A proxy in front of that port. It is closed at the end."""
    proxy = TcpProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()
