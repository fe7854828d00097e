"""A proxy before a panel that goes wrong when a test says so: an answer is lost, or a request is."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import httpx

Misfortune = Literal["lose the answer", "lose the request", "503", "not all", "pass"]
"""``not all``: the panel hears of a batch's first item only, and the caller that the others were not tried."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in, and when (``time.monotonic``)."""

    path: str
    key: str | None
    body: Any
    at: float


@dataclass(slots=True)
class UnluckyProxy:
    """``planned``: what happens to the next requests; without a plan they pass. ``retry_after`` goes with its 503s."""

    url: str
    planned: deque[Misfortune] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)
    retry_after: str = "1"


@contextlib.contextmanager
def unlucky_proxy(panel_url: str) -> Iterator[UnluckyProxy]:
    """Serve on a free port of the loopback until the block ends."""
    with httpx.Client(base_url=panel_url, trust_env=False) as onward:

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._handle()

            def do_POST(self) -> None:
                self._handle()

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                key = self.headers.get("Idempotency-Key")
                proxy.seen.append(Seen(self.path, key, json.loads(body) if body else None, time.monotonic()))
                misfortune = proxy.planned.popleft() if proxy.planned else "pass"
                if misfortune == "lose the request":
                    return  # HTTP/1.0: the connection ends
                if misfortune == "503":
                    self._answer(503, {"Retry-After": proxy.retry_after, "Content-Type": "text/html"}, b"<h1>Away</h1>")
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
                if misfortune == "not all":
                    untried = {"http_status": 503, "code": "not_tried", "message": "m"}
                    items = json.loads(body)["items"]
                    headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
                    heard = onward.post(self.path, json={"items": items[:1]}, headers=headers).json()["items"]
                    answered = {"items": heard + [untried] * (len(items) - 1)}
                    self._answer(200, {"Content-Type": "application/json"}, json.dumps(answered).encode())
                    return
                answer = onward.request(self.command, self.path, content=body, headers=headers)
                if misfortune == "pass":
                    kept = {k: v for k, v in answer.headers.items() if k.lower() in {"content-type", "retry-after"}}
                    self._answer(answer.status_code, kept, answer.content)

            def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                """A test's output is the test's."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        proxy = UnluckyProxy(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, name="unlucky-proxy", kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
