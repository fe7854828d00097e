"""The database frozen, away, old or slow: every answer still comes in about two seconds and tells what to do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from api import health_routes
from api.dependencies import Edge
from api.http.deadline import within
from api.main import create_app
from panel.journal.calls import Call, DatabaseAwayError, OutcomeUnknownError, OverloadedError
from panel.journal.journal_state import LockTimeout
from panel.settings import Settings, load_settings
from runtime.processes.free_ports import free_port
from runtime.servers.embedded_postgres import EmbeddedPostgres
from tests.integration.api.conftest import Secrets
from tests.integration.api.test_api_sync import CREATE
from tests.support.databases import Database
from tests.support.stand_ins.fake_postgres import refusing_postgres
from tests.support.stand_ins.refusing import refuse
from tests.support.waiting import PATIENCE_S

T = TypeVar("T")

PRODUCTION_S = 2.0
"""How long an answer may take. :mod:`panel.deadlines` makes its parts of it, and has a test of its own; here everybody
is answered while the database cannot answer."""


async def _well(ask: Callable[[], Awaitable[httpx.Response]], status_code: int) -> None:
    """Until it is answered so: on a busy machine a 503 may be right, too."""
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await ask()).status_code != status_code:
            assert answer.status_code == 503, answer.text


class TestInTime:
    """What cannot be done is told in production's time. The other tests leave a busy machine far more."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"answer_within_s": PRODUCTION_S})

    async def test_a_frozen_database_is_503_in_time_for_everybody(
        self, site: httpx.AsyncClient, anna: httpx.AsyncClient, postgres_server: EmbeddedPostgres
    ) -> None:
        await _well(lambda: site.post("/api/vps/sync", json=CREATE), 202)
        postgres_server.pause()
        try:
            calls = [
                site.post("/api/vps/sync", json=CREATE),
                site.post("/api/vps/sync", json=CREATE),
                site.get("/api/vps/sync/operations/1"),
                site.get("/api/vps/sync/records?order_id=1"),
                anna.get("/api/vps"),
                anna.get("/api/vps/1"),
                site.get("/readyz"),
            ]
            async with asyncio.timeout(PATIENCE_S):
                answers = await asyncio.gather(*calls)
                alive = await site.get("/healthz")
                refused = await site.post("/api/vps/sync", json=CREATE, headers={"X-API-Key": "x"})
        finally:
            postgres_server.resume()
        assert {a.status_code for a in answers} == {503}
        assert all(int(a.headers["Retry-After"]) >= 1 for a in answers)
        assert {a.json()["code"] for a in answers} <= {"database_away", "outcome_unknown", "not_ready"}
        assert (alive.status_code, refused.status_code) == (200, 401)
        await _well(lambda: site.post("/api/vps/sync", json=CREATE), 202)

    async def test_slow_keys_and_a_frozen_database_are_in_time_together(
        self, app: FastAPI, anna: httpx.AsyncClient, postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the keys took is taken from the read's time, of which a little is always left."""
        edge: Edge = app.state.edge
        user_of = edge.verifier.user_of
        granted: list[float] = []

        async def slowly(authorization: list[str]) -> int:
            await asyncio.sleep(edge.deadlines.keys_s)
            return await user_of(authorization)

        async def noted(seconds: float, work: Coroutine[Any, Any, T]) -> T:
            granted.append(seconds)
            return await within(seconds, work)

        monkeypatch.setattr("api.dependencies.within", noted)
        await _well(lambda: anna.get("/api/vps"), 200)
        assert max(granted) <= edge.deadlines.read_s
        granted.clear()
        monkeypatch.setattr(edge.verifier, "user_of", slowly)
        postgres_server.pause()
        try:
            for path in ("/api/vps", "/api/vps/1"):
                assert (await anna.get(path)).status_code == 503
        finally:
            postgres_server.resume()
        assert granted == [pytest.approx(edge.deadlines.left_to_read_s(edge.deadlines.keys_s))] * 2

    async def test_a_commit_that_hangs_is_an_unknown_outcome(
        self, app: FastAPI, site: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        edge: Edge = app.state.edge
        ends = asyncio.Event()

        async def hang(_calls: list[Call], _lock_timeout: LockTimeout) -> None:
            await ends.wait()
            raise DatabaseAwayError("too late")

        monkeypatch.setattr(edge.acceptor, "_transaction", hang)
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await site.post("/api/vps/sync", json=CREATE)
        finally:
            ends.set()
        assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")


@pytest.mark.own_sessions
async def test_a_database_that_takes_no_writes_is_503_until_it_does(
    site: httpx.AsyncClient, operator: httpx.AsyncClient, database: Database, logged: list[structlog.typing.EventDict]
) -> None:
    """As a standby behind the panel's address after a failover. Connections that met it are not used again."""
    pausing = {"target": "feed", "reason": "why", "for_s": 60}
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
        try:
            ready = await site.get("/readyz")
            assert (ready.status_code, ready.json()["checks"]["database"]) == (200, "read-only"), "clients can read"
            answers = await asyncio.gather(
                *(site.post("/api/vps/sync", json=CREATE) for _ in range(4)),
                operator.post("/api/ops/pause", json=pausing),
            )
            assert (await site.get("/api/vps/sync/records?order_id=1")).status_code == 200  # reads go on
        finally:
            admin.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
    assert [(a.status_code, a.json().get("code"), a.headers.get("Retry-After")) for a in answers] == [
        (503, "database_away", "5")
    ] * 5
    assert not any(event["event"] in {"accept_batch_split", "accept_failed"} for event in logged)
    for _ in range(4):
        assert (await site.post("/api/vps/sync", json=CREATE)).status_code == 202
    # A connection that only read meanwhile has not met it: the first write over it is refused, and ends it.
    tries = [await operator.post("/api/ops/pause", json=pausing) for _ in range(3)]
    assert [a.status_code < 300 for a in tries][1:] == [True, True]


async def test_a_failing_disk_is_an_absent_database(site: httpx.AsyncClient, database: Database) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        refuse(owner, "operations", "INSERT", "58030")
    answer = await site.post("/api/vps/sync", json=CREATE)
    assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "database_away", "5")


@pytest.fixture
async def lonely(secrets: Secrets) -> AsyncIterator[httpx.AsyncClient]:
    """The API with nothing behind it."""
    async with _with_database_at(f"postgresql://panel:x@127.0.0.1:{free_port()}/panel", secrets) as client:
        yield client


@contextlib.asynccontextmanager
async def _with_database_at(url: str, secrets: Secrets) -> AsyncIterator[httpx.AsyncClient]:
    settings = load_settings(
        _env_file=None,
        database_url=url,
        vps_sync_api_key=SecretStr(secrets.sync),
        jwt_secret=SecretStr(secrets.jwt),
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        headers = {"X-API-Key": secrets.sync, "Authorization": f"Bearer {secrets.token(5)}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://panel", headers=headers
        ) as client:
            yield client


async def test_it_starts_without_a_database_and_says_so(lonely: httpx.AsyncClient) -> None:
    assert (await lonely.get("/healthz")).json() == {"status": "success"}
    ready = await lonely.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert ready.json()["checks"] == {"database": "away", "redis": "not configured", "relay": "not configured"}
    for answer in (await lonely.post("/api/vps/sync", json=CREATE), await lonely.get("/api/vps")):
        assert (answer.status_code, answer.json()["code"]) == (503, "database_away")
        assert answer.headers["Retry-After"] == "5"


@pytest.mark.parametrize("sqlstate", ["28P01", "3D000", "53300", "57P03"])
async def test_a_database_that_lets_nobody_in_is_not_told_to_be_absent(secrets: Secrets, sqlstate: str) -> None:
    with refusing_postgres(sqlstate, "ВАЖНО", "не сегодня") as port:
        async with _with_database_at(f"postgresql://panel:x@127.0.0.1:{port}/panel", secrets) as client:
            ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "away (gives no session)")
    assert ready.json()["message"] == "The database is away (gives no session)"


async def test_an_absent_server_behind_a_socket_file_is_not_said_to_answer(secrets: Secrets, tmp_path: Path) -> None:
    async with _with_database_at(f"postgresql://panel:x@/panel?host={tmp_path}", secrets) as client:
        ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "away")


async def test_ready_with_the_database_and_without_redis(site: httpx.AsyncClient) -> None:
    ready = await site.get("/readyz")
    checks = {"database": "ok", "redis": "not configured", "relay": "not configured"}
    assert (ready.status_code, ready.json()["checks"]) == (200, checks)


@pytest.mark.parametrize("there", [True, False], ids=["redis is there", "redis is away"])
async def test_redis_is_told_not_required(
    settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    if there:
        monkeypatch.setattr(health_routes, "REDIS_S", PATIENCE_S)
    url = redis_url if there else f"redis://127.0.0.1:{free_port()}/0"
    app = create_app(settings.model_copy(update={"redis_url": url}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://panel") as client,
    ):
        ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["redis"]) == (200, "ok" if there else "away")
    assert ready.json()["checks"]["relay"] == "ok"


async def test_a_database_that_was_not_migrated_is_not_ready(settings: Settings, empty_database: Database) -> None:
    app = create_app(settings.model_copy(update=empty_database.fields))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://panel") as client,
    ):
        ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert "at migration none, this version needs" in ready.json()["message"]


class Raising:
    """An acceptor that fails in one way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def accept(self, _call: Call) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status_code", "code", "retry_after"),
    [
        (OutcomeUnknownError(17), 503, "outcome_unknown", "5"),
        (OutcomeUnknownError(None), 503, "outcome_unknown", "5"),
        (OverloadedError(), 503, "overloaded", "1"),
        (RuntimeError("password=hunter2"), 500, "internal_error", None),
    ],
    ids=["outcome unknown", "outcome unknown, no id", "overloaded", "a bug"],
)
async def test_what_an_acceptor_cannot_do_is_told(
    app: FastAPI,
    site: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[structlog.typing.EventDict],
    error: Exception,
    status_code: int,
    code: str,
    retry_after: str | None,
) -> None:
    edge: Edge = app.state.edge
    monkeypatch.setattr(edge.acceptor, "accept", Raising(error).accept)
    answer = await site.post("/api/vps/sync", json=CREATE)
    said = answer.json()
    assert (answer.status_code, said["code"], answer.headers.get("Retry-After")) == (status_code, code, retry_after)
    assert "hunter2" not in answer.text
    faults = [event["request_id"] for event in logged if event["event"] == "request_failed"]
    assert faults == ([said["request_id"]] if status_code == 500 else [])
    if isinstance(error, OutcomeUnknownError) and error.operation_id:
        assert said["operation"] == {"id": 17, "url": "/api/vps/sync/operations/17"}
