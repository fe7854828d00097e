"""What `/readyz` can answer, in the OpenAPI document, on the operators' page and in the code: the same words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from sqlalchemy.exc import OperationalError

from api import health_routes
from api.dependencies import Edge
from api.main import create_app
from api.readiness_states import READINESS, pattern_of
from panel.journal.calls import DatabaseAwayError
from panel.journal.relay import STALLED_S, Relay
from panel.migrate import head_revision
from panel.records.reads import DatabaseHealth
from panel.settings import load_settings
from tests.support.keys import random_key

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operations.md"


def known(check: str, word: str) -> bool:
    return re.fullmatch(pattern_of(check), word) is not None


class RefusalError(Exception):
    sqlstate = "42501"


def refused() -> DatabaseAwayError:
    error = DatabaseAwayError("away")
    error.__cause__ = OperationalError("SELECT 1", None, RefusalError())
    return error


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (DatabaseHealth(head_revision(), writable=True), "ok"),
        (DatabaseHealth(head_revision(), writable=False), "read-only"),
        (DatabaseHealth("0001", writable=True), f"at migration 0001, this version needs {head_revision()}"),
        (DatabaseHealth(None, writable=True), f"at migration none, this version needs {head_revision()}"),
        (DatabaseAwayError("away"), "away"),
        (refused(), "away (SQLSTATE 42501)"),
    ],
)
async def test_of_the_database(answer: DatabaseHealth | DatabaseAwayError, word: str) -> None:
    async def read(looking: Any) -> DatabaseHealth:
        looking.close()
        if isinstance(answer, DatabaseAwayError):
            raise answer
        return answer

    edge = SimpleNamespace(
        read=read, reader=None, settings=SimpleNamespace(database_url="postgresql://x@127.0.0.1:1/x")
    )
    answered = await health_routes._database(cast("Edge", edge))
    assert answered == word
    assert known("database", answered)


@pytest.mark.parametrize(
    ("url", "fault", "word"),
    [
        ("", None, "not configured"),
        ("redis://127.0.0.1:1", None, "ok"),
        ("redis://127.0.0.1:1", redis.ConnectionError("refused"), "away"),
        ("redis://127.0.0.1:1", TimeoutError(), "away"),
        ("redis://127.0.0.1:1", redis.ResponseError("OOM command not allowed"), "refuses: OOM"),
    ],
)
async def test_of_redis(monkeypatch: pytest.MonkeyPatch, url: str, fault: Exception | None, word: str) -> None:
    async def trying(_client: object) -> None:
        if fault is not None:
            raise fault

    monkeypatch.setattr(health_routes, "try_work_async", trying)
    answered = await health_routes._redis(url)
    assert answered == word
    assert known("redis", answered)


def states(relay: Relay, moments: list[float]) -> Iterator[str]:
    """Everything that a relay can say."""
    yield relay.health
    relay._thread = cast("Any", SimpleNamespace(is_alive=lambda: True))
    yield relay.health
    relay._polls = True
    yield relay.health
    relay._parts_failing = {"events": "42501", "power actions": "42501"}
    yield relay.health
    relay._outbox.refused = {"statistics": "NOPERM", "webhooks": "NOPERM"}
    yield relay.health
    relay._outbox.refused["sync"] = "READONLY"
    yield relay.health
    relay._failing = "database away"
    yield relay.health
    relay._failing = "failing: ValueError"
    yield relay.health
    moments[0] += STALLED_S + 1
    yield relay.health


def test_of_the_relay() -> None:
    moments = [0.0]
    relay = Relay("postgresql://127.0.0.1:1/none", cast("Any", SimpleNamespace(waiting=None)), clock=lambda: moments[0])
    answered = [*states(relay, moments), "not configured"]
    assert len(set(answered)) == len([one for one in READINESS if one.check == "relay"])
    assert all(known("relay", one) for one in answered), answered


def test_the_openapi_document_has_them_with_what_to_do() -> None:
    settings = load_settings(
        _env_file=None,
        database_url="postgresql://127.0.0.1:1/none",
        vps_sync_api_key=random_key(),
        jwt_secret=random_key(),
    )
    document = create_app(settings).openapi()
    answers = document["paths"]["/readyz"]["get"]["responses"]
    assert answers["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Ready")
    assert answers["503"]["content"]["application/problem+json"]["schema"]["$ref"].endswith("/NotReady")
    for name in ("Ready", "NotReady"):
        assert document["components"]["schemas"][name]["properties"]["checks"]["$ref"].endswith("/Checks")
    checks = document["components"]["schemas"]["Checks"]["properties"]
    for one in READINESS:
        assert f"`{one.word}`: {one.means}" in checks[one.check]["description"]
        assert one.do in checks[one.check]["description"]
        assert checks[one.check]["pattern"] == pattern_of(one.check)


def test_the_operators_page_has_them() -> None:
    rows = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| (database|redis|relay) ", line)
    ]
    assert rows == [f"| {one.check} | `{one.word}` | {one.answered} | {one.means} | {one.do} |" for one in READINESS]
