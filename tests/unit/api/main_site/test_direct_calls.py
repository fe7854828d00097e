"""A sync call that is answered before the router gets the answer that its route would give."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from api.main import create_app
from api.main_site.direct_calls import DirectCalls
from panel.journal.accept import Acceptor
from panel.journal.calls import (
    Accepted,
    Call,
    DatabaseAwayError,
    Outcome,
    OutcomeUnknownError,
    OverloadedError,
    Refused,
    Replayed,
)
from panel.records.projection import new_row
from panel.records.public import public_record
from panel.settings import load_settings
from tests.support.calls import PLAN
from tests.support.keys import random_key

KEY = random_key()
AT = datetime(2026, 1, 2, tzinfo=UTC)
CREATE = {"action": "create", "vps": PLAN}


class Scripted:
    """Its one outcome, whatever the call."""

    def __init__(self, outcome: Callable[[Call], Outcome]) -> None:
        self._outcome = outcome

    async def accept(self, call: Call) -> Outcome:
        return self._outcome(call)

    async def audit(self, call: Call, refused: Refused) -> None:
        """Nothing."""


def accepted(call: Call) -> Outcome:
    record = public_record(new_row(7, call.payload, AT))
    return Accepted(9, 7, "queued", record, "VPS 7 is being created", created=True)


def failing(error: Exception) -> Callable[[Call], Outcome]:
    def outcome(_call: Call) -> Outcome:
        raise error

    return outcome


async def answered(outcome: Callable[[Call], Outcome], method: str, request: dict[str, Any]) -> dict[str, Any]:
    settings = load_settings(
        _env_file=None,
        database_url="postgresql://127.0.0.1:1/none",
        vps_sync_api_key=SecretStr(KEY),
        jwt_secret=SecretStr(random_key()),
        body_limit_bytes=1024,
    )
    app = create_app(settings, acceptor=cast("Acceptor", Scripted(outcome)))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://panel") as caller:
        answer = await caller.request(method, "/api/vps/sync", **request)
    noted = {(use.who, use.route, use.status_code, use.code) for use in app.state.edge.access._pending}
    return {"status": answer.status_code, "headers": dict(answer.headers), "body": answer.text, "noted": noted}


GOOD: dict[str, Any] = {"headers": {"X-API-Key": KEY, "X-Request-Id": "same"}}

CASES: list[tuple[str, Callable[[Call], Outcome], str, dict[str, Any]]] = [
    ("accepted", accepted, "POST", GOOD | {"json": CREATE}),
    ("refused by the journal", lambda _: Refused(404, "vps_unknown", "no"), "POST", GOOD | {"json": CREATE}),
    ("replayed", lambda _: Replayed(9, 7, 201, {"status": "success"}), "POST", GOOD | {"json": CREATE}),
    ("no database", failing(DatabaseAwayError("away")), "POST", GOOD | {"json": CREATE}),
    ("overloaded", failing(OverloadedError("full")), "POST", GOOD | {"json": CREATE}),
    ("unknown", failing(OutcomeUnknownError(9)), "POST", GOOD | {"json": CREATE}),
    ("a bug", failing(RuntimeError("a bug")), "POST", GOOD | {"json": CREATE}),
    ("a field missing", accepted, "POST", GOOD | {"json": {"action": "create", "vps": {}}}),
    ("no JSON", accepted, "POST", GOOD | {"content": b"x"}),
    ("too large", accepted, "POST", GOOD | {"json": {"action": "x" * 2000}}),
    ("a wrong key", accepted, "POST", {"headers": {"X-API-Key": "wrong", "X-Request-Id": "same"}, "json": CREATE}),
    ("no key", accepted, "POST", {"headers": {"X-Request-Id": "same"}, "json": CREATE}),
    ("another method", accepted, "PUT", GOOD | {"json": CREATE}),
]


@pytest.mark.parametrize(("outcome", "method", "request_"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
async def test_the_answer_is_that_of_the_route(
    monkeypatch: pytest.MonkeyPatch, outcome: Callable[[Call], Outcome], method: str, request_: dict[str, Any]
) -> None:
    direct = await answered(outcome, method, request_)

    async def through_the_router(self: DirectCalls, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    monkeypatch.setattr(DirectCalls, "__call__", through_the_router)
    assert direct == await answered(outcome, method, request_)
