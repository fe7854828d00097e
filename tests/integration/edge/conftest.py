"""One API process for a module of tests that speak HTTP to it, badly as often as not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, text

from panel.sessions import sync_engine
from tests.support.api_process import ApiProcess, api_process
from tests.support.databases import Databases
from tests.support.fleets.world import add_user
from tests.support.keys import random_key
from tests.support.waiting import wait_until

USER = 5
JOURNAL = ("operations", "vps_queues", "order_claims", "idempotency_keys", "vps")


@dataclass(frozen=True, slots=True)
class Place:
    """The API, and the database behind it."""

    api: ApiProcess
    engine: Engine

    def counted(self) -> dict[str, int]:
        """How many rows each table of the sync path has."""
        with self.engine.connect() as connection:
            return {name: connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0 for name in JOURNAL}


@pytest.fixture(scope="module")
def place(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A running API that knows one user."""
    database = databases.clone()
    engine = sync_engine(database.app_url, "panel-sync test", pool_size=2)
    add_user(engine, USER)
    with api_process(database, tmp_path_factory.mktemp("api")) as api:
        yield Place(api, engine)
    engine.dispose()
    databases.drop(database)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back on a bare connection."""

    status: int
    headers: dict[str, str]
    body: bytes


def logged(place: Place) -> int:
    """How many lines the log has, those of all requests before this one included: they may come after the answer."""
    path = f"/{random_key()[:16]}"
    spoken(place.api.port, f"GET {path} HTTP/1.1\r\nHost: panel\r\nConnection: close\r\n\r\n".encode())

    def lines() -> int:
        lines = place.api.log()
        return len(lines) if any(line.get("path") == path for line in lines) else 0

    return wait_until(lines, "the last request is logged")


def spoken(port: int, raw: bytes, *, then_close: bool = False, timeout_s: float = 120.0) -> Answer | None:
    """Send these bytes as they are; the first answer, or None if the connection ended without one.

    ``then_close``: the sending side ends after the bytes.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(raw)
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        return received(connection)


def received(connection: socket.socket) -> Answer | None:
    """The next answer on a connection; None if it ends without one."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    while len(body) < int(headers.get("content-length", 0)):
        chunk = connection.recv(65536)
        if not chunk:
            break
        body += chunk
    return Answer(int(first.split()[1]), headers, body)


def posted(place: Place, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A sync call as bytes, with the right key; ``headers`` replace the usual Content-Type and Content-Length."""
    given = headers or ("Content-Type: application/json", f"Content-Length: {len(body) if length is None else length}")
    lines = ["POST /api/vps/sync HTTP/1.1", "Host: panel", f"X-API-Key: {place.api.sync_key}", *given, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def create_vps(**fields: Any) -> dict[str, Any]:
    """A create that would be accepted, but for ``fields``."""
    vps = {"user_id": USER, "name": "web-01", "cpu": 4, "ram": 8192, "disk": 100, "os": "Ubuntu 22.04"}
    return {"action": "create", "vps": vps | fields}
