"""Operators' sessions: which key begins one, what ends it, and that it is no customer's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine, text

from api.main import create_app
from panel.settings import OperatorKey, Settings
from tests.integration.api.conftest import Secrets
from tests.integration.api.operator_pages.conftest import Keys, sent, sign_in_operator
from tests.integration.api.pages.conftest import OWN, browser, form_token, sign_in
from tests.support.keys import random_key


def sessions(engine: Engine) -> list[tuple[str, str, float]]:
    """Every session: hash, operator, seconds until it expires."""
    query = (
        "SELECT token_hash, operator, CAST(extract(epoch FROM expires_at - clock_timestamp()) AS float8)"
        " FROM operator_sessions ORDER BY created_at"
    )
    with engine.connect() as connection:
        return [(row[0], row[1], row[2]) for row in connection.execute(text(query))]


@pytest.fixture
async def visitor(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of somebody who is not signed in."""
    async with browser(app) as made:
        yield made


async def test_a_key_begins_a_session_and_stays_out_of_the_database(
    visitor: httpx.AsyncClient, keys: Keys, engine: Engine
) -> None:
    answer = await visitor.post("/ops/sign-in", data={"key": f" {keys.olga}\n"}, headers=OWN)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ops")
    ((name, cookie),) = [c.split("=", 1) for c in answer.headers.get_list("set-cookie")]
    assert name == "__Secure-panel_operator"
    token, *rest = cookie.split("; ")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/ops"} <= set(rest)
    ((stored, operator, left_s),) = sessions(engine)
    assert operator == "olga"
    assert 11 * 3600 < left_s < 12 * 3600 + 1
    with engine.connect() as connection:
        whole = str(connection.execute(text("SELECT * FROM operator_sessions")).one())
    assert token not in whole
    assert keys.olga not in whole
    assert stored not in cookie
    page = await visitor.get("/ops")
    assert page.status_code == 200
    assert "olga (operate)" in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "<script" not in page.text, "the pages of operators need none"


async def test_wrong_keys_are_refused_counted_and_slowed_down(
    app: FastAPI, visitor: httpx.AsyncClient, keys: Keys, secrets: Secrets, engine: Engine
) -> None:
    for wrong in ("", "x", random_key(), secrets.sync, secrets.token(5), "ключ"):
        answer = await visitor.post("/ops/sign-in", data={"key": wrong}, headers=OWN)
        assert (answer.status_code, "not the key of an operator" in answer.text) == (401, True), wrong
        assert "set-cookie" not in answer.headers
    last = [await visitor.post("/ops/sign-in", data={"key": "x" * 40}, headers=OWN) for _ in range(20)][-1]
    assert last.status_code == 429
    assert int(last.headers["Retry-After"]) >= 1
    assert sessions(engine) == []
    await sign_in_operator(visitor, keys.olga)
    await app.state.edge.access.store()
    with engine.connect() as connection:
        uses = connection.execute(text("SELECT who, status_code FROM access_counts WHERE route LIKE '%/sign-in'")).all()
    assert ("api:olga", 303) in uses
    assert ("no-key", 401) in uses
    assert any(who.startswith("key:") and status == 429 for who, status in uses)


@asynccontextmanager
async def configured(settings: Settings, *operators: OperatorKey) -> AsyncIterator[FastAPI]:
    """The API after a restart with these operators."""
    app = create_app(settings.model_copy(update={"ops_api_keys": operators}))
    async with app.router.lifespan_context(app):
        yield app


async def test_a_session_ends_with_its_key(
    olga: httpx.AsyncClient, keys: Keys, settings: Settings, subtests: pytest.Subtests
) -> None:
    """The cookie stays the same; what is configured changes."""
    before, fresh, cookies = SecretStr(keys.olga), SecretStr(random_key()), dict(olga.cookies)
    cases: list[tuple[str, tuple[OperatorKey, ...], str | None]] = [
        ("the key goes on as the previous one", (OperatorKey(name="olga", role="operate", key=fresh, previous=before),),
         "olga (operate)"),
        ("another role", (OperatorKey(name="olga", role="read", key=before),), "olga (read)"),
        ("a new key under the same name", (OperatorKey(name="olga", role="operate", key=fresh),), None),
        ("the key is another operator's now", (OperatorKey(name="oleg", role="operate", key=before),), None),
        ("no operators", (), None),
    ]  # fmt: skip
    for name, operators, shown in cases:
        async with configured(settings, *operators) as app, browser(app) as client:
            answer = await client.get("/ops", headers={"Cookie": "; ".join(f"{n}={v}" for n, v in cookies.items())})
            with subtests.test(name):
                if shown is None:
                    assert (answer.status_code, answer.headers["Location"]) == (303, "/ops/sign-in")
                else:
                    assert shown in answer.text


async def test_it_ends_by_time_and_by_sign_out(olga: httpx.AsyncClient, owner: Engine, engine: Engine) -> None:
    cookies = dict(olga.cookies)
    forged = await olga.post("/ops/sign-out", data={"form_token": "x"}, headers=OWN)
    assert forged.status_code == 403
    answer = await sent(olga, "/ops/sign-out")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ops/sign-in?signed-out")
    assert (sessions(engine), dict(olga.cookies)) == ([], {})
    assert "You are signed out" in (await olga.get("/ops/sign-in?signed-out")).text
    again = await olga.get("/ops", headers={"Cookie": "; ".join(f"{n}={v}" for n, v in cookies.items())})
    assert (again.status_code, again.text) == (303, "")


async def test_an_expired_session_shows_nothing(olga: httpx.AsyncClient, owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(text("UPDATE operator_sessions SET expires_at = clock_timestamp()"))
    assert (await olga.get("/ops/held")).headers["Location"] == "/ops/sign-in?next=/ops/held"


@pytest.mark.parametrize(
    ("wanted", "leads_to"),
    [
        pytest.param("/ops/vps/17", "/ops/vps/17", id="the page that was asked for"),
        pytest.param("//evil.test/ops", "/ops", id="another host"),
        pytest.param("/ops/../api/ops/held", "/ops", id="a path upwards"),
        pytest.param("/vps/1", "/ops", id="a customer's page"),
        pytest.param("/ops/a\r\nSet-Cookie: x", "/ops", id="a header"),
    ],
)
async def test_after_the_sign_in(visitor: httpx.AsyncClient, keys: Keys, wanted: str, leads_to: str) -> None:
    answer = await visitor.post("/ops/sign-in", data={"key": keys.rita, "next": wanted}, headers=OWN)
    assert (answer.status_code, answer.headers["Location"]) == (303, leads_to)


async def test_customers_and_operators_have_nothing_of_each_other(
    app: FastAPI, olga: httpx.AsyncClient, secrets: Secrets
) -> None:
    async with browser(app) as anna:
        await sign_in(anna, secrets)
        ((_, token),) = dict(anna.cookies).items()
        for headers in ({}, {"Cookie": f"__Secure-panel_operator={token}"}):
            for path in ("/ops", "/ops/vps/1", "/ops/audit"):
                answer = await anna.get(path, headers=headers)
                assert answer.status_code == 303
                assert answer.headers["Location"].startswith("/ops/sign-in")
            own = form_token(await anna.get("/"))
            answer = await anna.post("/ops/reconcile", data={"form_token": own}, headers=OWN | headers)
            assert (answer.status_code, answer.headers["Location"]) == (303, "/ops/sign-in")
    ((_, token),) = dict(olga.cookies).items()
    for headers in ({}, {"Cookie": f"__Host-panel_session={token}"}):
        assert (await olga.get("/", headers=headers)).headers["Location"] == "/sign-in"
        assert (await olga.get("/api/vps/events", headers=headers)).status_code == 401
        assert (await olga.get("/api/ops/held", headers=headers)).status_code == 401, "the API takes keys alone"
