"""The API on a database of its own, called in process; its two kinds of callers."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine

from api.main import create_app
from panel.journal.writer import Applied, apply_operation
from panel.settings import Settings, load_settings
from tests.support.databases import Database
from tests.support.fleets.world import add_user
from tests.support.keys import random_key
from tests.support.waiting import PATIENT_API_S


@dataclass
class Secrets:
    """What both sides know; made anew for each test."""

    sync: str = field(default_factory=random_key)
    previous: str = field(default_factory=random_key)
    operator: str = field(default_factory=random_key)
    jwt: str = field(default_factory=random_key)

    def token(self, user_id: int) -> str:
        claims = {"user_id": user_id, "sub": str(user_id), "username": "x", "exp": int(time.time()) + 3600}
        return jwt.encode(claims, self.jwt, "HS256")


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def settings(database: Database, secrets: Secrets) -> Settings:
    return load_settings(
        _env_file=None,
        **database.fields,
        vps_sync_api_key=SecretStr(secrets.sync),
        vps_sync_api_key_previous=SecretStr(secrets.previous),
        ops_api_key=SecretStr(secrets.operator),
        jwt_secret=SecretStr(secrets.jwt),
        body_limit_bytes=4096,
        wait_cap_s=60,
        answer_within_s=PATIENT_API_S,
    )


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    made = create_app(settings)
    async with made.router.lifespan_context(made):
        yield made


DOCUMENT: dict[str, Any] = {}


def calling(app: FastAPI, headers: dict[str, str]) -> httpx.AsyncClient:
    """A caller of the application in process, who accepts only answers that /openapi.json announces."""

    if not DOCUMENT:  # of every application the same, and it takes longer to make than most tests
        DOCUMENT.update(app.openapi())

    async def documented(answer: httpx.Response) -> None:
        assert_documented(DOCUMENT, answer)

    transport = httpx.ASGITransport(app)
    hooks = {"response": [documented]}
    return httpx.AsyncClient(transport=transport, base_url="http://panel", headers=headers, event_hooks=hooks)


def assert_documented(document: dict[str, Any], answer: httpx.Response) -> None:
    """The path, method, status code and media type of an answer stand in the OpenAPI document."""
    method, path = answer.request.method.lower(), answer.request.url.path
    for template, methods in document["paths"].items():
        segments = template.replace("{held_hash}", "[^/]+")
        if method in methods and re.fullmatch(re.sub(r"\{\w+\}", "[0-9]{1,19}", segments), path):
            described = methods[method]["responses"][str(answer.status_code)]
            if answer.status_code != 304:
                assert answer.headers["Content-Type"] in described["content"]
            return
    assert answer.status_code in {404, 405}, f"{method} {path} is not documented"


@pytest.fixture
async def site(app: FastAPI, secrets: Secrets) -> AsyncIterator[httpx.AsyncClient]:
    """The main site: knows the sync key."""
    async with calling(app, {"X-API-Key": secrets.sync}) as client:
        yield client


@pytest.fixture
async def operator(app: FastAPI, secrets: Secrets) -> AsyncIterator[httpx.AsyncClient]:
    """An operator: knows the operators' key."""
    async with calling(app, {"X-API-Key": secrets.operator}) as client:
        yield client


@pytest.fixture
async def anna(app: FastAPI, secrets: Secrets) -> AsyncIterator[httpx.AsyncClient]:
    """The client with panel user id 5."""
    async with calling(app, {"Authorization": f"Bearer {secrets.token(5)}"}) as client:
        yield client


@pytest.fixture
async def boris(app: FastAPI, secrets: Secrets) -> AsyncIterator[httpx.AsyncClient]:
    """The client with panel user id 6."""
    async with calling(app, {"Authorization": f"Bearer {secrets.token(6)}"}) as client:
        yield client


@pytest.fixture(autouse=True)
def users(engine: Engine) -> None:
    add_user(engine, 5)
    add_user(engine, 6)


@dataclass
class Worker:
    """Applies operations as a worker would."""

    engine: Engine

    def apply(self, *operation_ids: int) -> list[Applied]:
        return [apply_operation(self.engine, id_) for id_ in operation_ids]


@pytest.fixture
def worker(engine: Engine) -> Worker:
    return Worker(engine)


@pytest.fixture
def logged() -> Iterator[list[structlog.typing.EventDict]]:
    """Every log event of the test."""
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as events:
        yield events
