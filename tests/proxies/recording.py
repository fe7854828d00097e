"""A server with the API's protocol that remembers what it was asked, and says so in its answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.types import Receive, Scope, Send

from api.http.protocol import BoundedHttp
from tests.proxies.proxies import MARK
from tests.support.waiting import PATIENCE_S, wait_until


@dataclass(frozen=True, slots=True)
class Request:
    """One that the server read."""

    method: str
    path: str
    mark: str
    keys: tuple[str, ...]
    body: bytes


@dataclass
class Recording:
    """The server; ``requests`` grows while it runs.

    One below /attack waits for ``go``, as real ones wait for a database: meanwhile the proxy sends all of its body, and
    may keep the connection for the next caller.
    """

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].decode("latin-1")
        if path.startswith("/attack/"):
            self.begun.set()
        while path.startswith("/attack/") and not self.go.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.01)
        body, more = b"", True
        while more:
            try:
                message = await receive()
            except Exception:  # noqa: BLE001 - a body that is wrong; what it raises is the protocol's
                await _answer(send, 400, {})
                return
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        named = {name.decode("latin-1"): [] for name, _ in scope["headers"]}  # type: dict[str, list[str]]
        for name, value in scope["headers"]:
            named[name.decode("latin-1")].append(value.decode("latin-1"))
        marks = named.get(MARK.lower(), [])
        self.requests.append(Request(scope["method"], path, ",".join(marks), tuple(named.get("x-api-key", ())), body))
        await _answer(send, 200, {"path": path, "body": hashlib.sha256(body).hexdigest()})


async def _answer(send: Send, status: int, body: dict[str, str]) -> None:
    content = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@contextmanager
def recording() -> Iterator[Recording]:
    """The server, in a thread of this process."""
    server_app = Recording()
    config = uvicorn.Config(
        server_app, http=BoundedHttp, ws="none", lifespan="off", proxy_headers=False, log_config=None, log_level="error"
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server_app.port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: server.started, "the server listens")
        try:
            yield server_app
        finally:
            server.should_exit = True
            thread.join(timeout=PATIENCE_S)
