"""The API as a process: started from the environment, spoken to over sockets that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
import structlog
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine, text

from api.http import bodies
from api.main import app_from_environment, create_app
from panel.settings import Settings, SettingsError, get_settings
from runtime.processes.free_ports import free_port
from tests.integration.api.conftest import Secrets, calling
from tests.integration.api.test_api_sync import CREATE
from tests.support.databases import Database
from tests.support.waiting import PATIENCE_S, PATIENT_API_S, wait_until

PROJECT = Path(__file__).resolve().parents[3]


@dataclass
class Served:
    """A running server. ``log`` is what it wrote so far."""

    port: int
    log_path: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log_path.read_text().rpartition("\n")[0].splitlines()]


@pytest.fixture
def served(database: Database, secrets: Secrets, tmp_path: Path) -> Iterator[Served]:
    """``uvicorn --factory api.main:app_from_environment``, as it is started in production."""
    made = Served(free_port(), tmp_path / "api.log")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT),
        **database.urls,
        "VPS_SYNC_API_KEY": secrets.sync,
        "JWT_SECRET": secrets.jwt,
        "BODY_LIMIT_BYTES": "4096",
        "ANSWER_WITHIN_S": str(PATIENT_API_S),
        "WAIT_CAP_S": "60",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.main:app_from_environment", "--port", str(made.port)]
    with made.log_path.open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)  # noqa: S603 - own
    try:
        wait_until(lambda: _answers(made.url) or process.poll() is not None, "the API answers")
        assert process.poll() is None, made.log_path.read_text()
        yield made
    finally:
        process.terminate()
        assert process.wait(timeout=120) is not None


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def test_started_from_the_environment_it_serves_and_logs_no_secret(served: Served, secrets: Secrets) -> None:
    token = secrets.token(5)
    with httpx.Client(base_url=served.url, timeout=120) as client:
        posted = client.post("/api/vps/sync", json=CREATE, headers={"X-API-Key": secrets.sync, "X-Request-Id": "r-1"})
        assert posted.status_code == 202
        assert client.get("/api/vps?cursor=top-secret", headers={"Authorization": f"Bearer {token}"}).status_code == 422
        assert client.get("/api/vps", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert client.post("/api/vps/sync", headers={"X-API-Key": "wrong-key-wrong-key"}).status_code == 401
        docs = client.get("/docs")
        assert (docs.status_code, "script" in docs.headers["Content-Security-Policy"]) == (200, False)
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")
        assert posted.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    lines = wait_until(lambda: [e for e in served.log() if e["event"] == "http_request"][5:] and served.log(), "logged")
    access = next(e for e in lines if e.get("request_id") == "r-1")
    assert (access["method"], access["path"], access["status"]) == ("POST", "/api/vps/sync", 202)
    assert access["api_key_label"] == "current"
    written = served.log_path.read_text()
    for secret in (secrets.sync, secrets.jwt, token, "wrong-key", "top-secret", CREATE["vps"]["name"]):
        assert secret not in written


@contextlib.asynccontextmanager
async def _speaking(
    served: Served, secrets: Secrets, *headers: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    lines = ["POST /api/vps/sync HTTP/1.1", "Host: panel", "Content-Type: application/json", *headers]
    writer.write("\r\n".join([*lines, f"X-API-Key: {secrets.sync}", "", ""]).encode())
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """The status code, and whether the server then closed the connection."""
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        try:
            await reader.read()
        except ConnectionError:
            return int(head.split()[1]), True
    return int(head.split()[1]), True


async def test_a_body_that_announces_too_much_is_refused_unread(served: Served, secrets: Secrets) -> None:
    async with _speaking(served, secrets, "Content-Length: 1000000000") as (reader, _writer):
        assert await _answer(reader) == (413, True)


async def test_a_body_without_a_length_is_cut_at_the_limit(served: Served, secrets: Secrets) -> None:
    async with _speaking(served, secrets, "Transfer-Encoding: chunked") as (reader, writer):
        for _ in range(5):
            writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
            await writer.drain()
        assert await _answer(reader) == (413, True)


async def test_a_caller_that_goes_away_in_the_middle_leaves_nothing(
    served: Served, secrets: Secrets, engine: Engine
) -> None:
    async with _speaking(served, secrets, "Content-Length: 1000") as (_reader, writer):
        writer.write(b'{"action": "create", ')
        await writer.drain()
    gone = await asyncio.to_thread(
        wait_until, lambda: [e for e in served.log() if e.get("status") == 499], "the access log tells"
    )
    assert len(gone) == 1
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM operations")) == 0
    assert not [e for e in served.log() if e["event"] == "request_failed"]


async def test_a_caller_that_goes_away_after_its_call_is_served_all_the_same(
    served: Served, secrets: Secrets, engine: Engine
) -> None:
    body = json.dumps(CREATE)
    async with _speaking(served, secrets, f"Content-Length: {len(body)}", "Prefer: wait=60") as (_reader, writer):
        writer.write(body.encode())
        await writer.drain()

    def journaled() -> int:
        with engine.connect() as connection:
            return connection.scalar(text("SELECT count(*) FROM operations")) or 0

    assert await asyncio.to_thread(wait_until, journaled, "the call is journaled") == 1
    answered = await asyncio.to_thread(
        wait_until, lambda: [e for e in served.log() if e["event"] == "http_request"], "the wait ends", 50
    )
    assert [e["status"] for e in answered] == [202], "nobody is left who would wait for the 60 s"


@pytest.fixture
async def server(app: FastAPI) -> AsyncIterator[Served]:
    """The application behind a real server in this process, for tests that change its constants."""
    port = free_port()
    config = uvicorn.Config(app, port=port, log_config=None, lifespan="off")
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve())
    await asyncio.to_thread(wait_until, lambda: running.started, "the server listens")
    yield Served(port, Path(os.devnull))
    running.should_exit = True
    await task


async def test_a_body_that_does_not_arrive_is_given_up(
    server: Served, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.1)
    async with _speaking(server, secrets, "Content-Length: 1000") as (reader, writer):
        writer.write(b"{")
        await writer.drain()
        assert await _answer(reader) == (408, True)


# Celery announces a rename for its version 6; what this test is about is the message.
async def test_an_accepted_call_rings_the_workers(
    settings: Settings, secrets: Secrets, redis_url: str, logged: list[structlog.typing.EventDict]
) -> None:
    app = create_app(settings.model_copy(update={"redis_url": redis_url}))
    async with (
        app.router.lifespan_context(app),
        calling(app, {"X-API-Key": secrets.sync}) as site,
    ):
        posted = (await site.post("/api/vps/sync", json=CREATE)).json()
        with redis.Redis.from_url(redis_url) as broker:
            message = await asyncio.to_thread(wait_until, lambda: broker.lindex("sync", 0), "a message")
    headers = json.loads(message)["headers"]
    assert headers["task"] == "sync.apply"
    assert headers["argsrepr"] == f"op={posted['operation']['id']} vps={posted['vps']['id']} create"
    assert not [event for event in logged if event["log_level"] in {"warning", "error"}]


def test_a_wrong_setting_stops_the_start_with_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VPS_SYNC_API_KEY", "short")
    get_settings.cache_clear()
    try:
        with pytest.raises(SystemExit) as stopped:
            app_from_environment()
    finally:
        get_settings.cache_clear()
    assert str(stopped.value).startswith("panel-sync: VPS_SYNC_API_KEY: must be at least 32 printable ASCII")


def test_the_operators_key_is_not_the_main_sites(settings: Settings, secrets: Secrets) -> None:
    for key in (secrets.sync, secrets.previous):
        with pytest.raises(SettingsError, match="OPS_API_KEY must differ"):
            create_app(settings.model_copy(update={"ops_api_key": SecretStr(key)}))
