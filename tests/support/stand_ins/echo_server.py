"""A server that answers every GET with what it was sent, credentials included: the worst that a source may do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class EchoServer(ThreadingHTTPServer):
    """``status``: of the next answers. ``sent``: how many there were."""

    status = 500
    sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Echo(BaseHTTPRequestHandler):
    server: EchoServer

    def do_GET(self) -> None:
        given = "; ".join(f"{name}={value}" for name, value in self.headers.items())
        body = json.dumps({"status": "error", "message": given, "data": given, "errors": {given: given}}).encode()
        self.server.sent += 1
        # The reason phrase too: Proxmox tells its errors there.
        self.send_response(self.server.status, given)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def echo_server() -> Iterator[EchoServer]:
    """Serve until the block ends."""
    with EchoServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, name="echo-server")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
