"""A set that needs two operators, on the pages and by HTTP: who may be the second, and what each of them sees."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine, text

from panel.settings import OperatorKey, Settings
from tests.integration.api.operator_pages.conftest import Keys, sent, sign_in_operator, told
from tests.integration.api.operator_pages.test_operator_pages import audited, hold
from tests.integration.api.pages.conftest import browser
from tests.integration.cli.operating.test_second_operator_commands import WAITS
from tests.support.keys import random_key


@pytest.fixture
def oscar_key() -> str:
    return random_key()


@pytest.fixture
def settings(settings: Settings, keys: Keys, oscar_key: str) -> Settings:
    oscar = OperatorKey(name="oscar", role="operate", key=SecretStr(oscar_key))
    return settings.model_copy(update={"ops_api_keys": (*keys.operators(), oscar), "second_approval_above": 1})


@pytest.fixture
async def oscar(app: FastAPI, oscar_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """The browser of a second operator who decides."""
    async with browser(app) as made:
        await sign_in_operator(made, oscar_key)
        yield made


async def test_two_operators_by_page_and_by_http(
    app: FastAPI, olga: httpx.AsyncClient, oscar: httpx.AsyncClient, keys: Keys, oscar_key: str, engine: Engine
) -> None:
    held = hold(engine, 7, 8)
    page, asking = f"/ops/held/{held}", f"/ops/held/{held}/approve"
    assert "needs two operators" in (await olga.get("/ops/held")).text
    assert "Two operators must approve it" in (await olga.get(asking)).text
    first = await told(olga, asking)
    assert "the first of two approvals" in first.text
    assert ("needs a second operator" in first.text, "api:olga" in first.text) == (True, True)
    assert f'href="{asking}"' not in first.text, "Olga is not asked again"
    assert f'href="{page}/reject"' in first.text, "she may take it back"
    async with (
        browser(app) as other_window,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://panel.test/api/ops") as program,
    ):
        await sign_in_operator(other_window, keys.olga)
        again = await sent(other_window, asking)
        assert (again.status_code, "a second operator must approve it" in again.text) == (409, True)
        refused = await program.post(f"/held/{held}/approve", headers={"X-API-Key": keys.olga})
        assert (refused.status_code, refused.json()["code"]) == (409, "operator_conflict")
        (shown,) = (await program.get("/held", headers={"X-API-Key": keys.rita})).json()["data"]
        assert (shown["needs_second"], shown["decision"], shown["released"]) == (True, None, 0)
        assert [(one["by"], one["items"]) for one in shown["approvals"]] == [("api:olga", 2)]
        with engine.begin() as connection:
            connection.execute(text(WAITS))
        (of_one,) = (await program.get("/vps/7", headers={"X-API-Key": keys.rita})).json()["data"]["held"]
        assert (len(of_one["items"]), of_one["needs_second"], of_one["approvals"][0]["items"]) == (1, True, 1)
        for path in ("/ops/held", page):
            for language, says in (("en", "needs a second operator"), ("ru", "нужен второй оператор")):
                assert says in (await oscar.get(path, headers={"Accept-Language": language})).text
            assert f'href="{asking}"' in (await oscar.get(path)).text
        second = await program.post(f"/held/{held}/approve", headers={"X-API-Key": oscar_key})
        assert second.status_code == 200, second.text
        assert (second.json()["data"]["decision"], second.json()["data"]["released"]) == ("approved", 2)
    assert audited(engine) == [
        ("api:olga", "approve", f"{held} first of two"),
        ("api:oscar", "approve", f"{held} second of two"),
    ]
    decided = (await oscar.get(page)).text
    assert ("api:olga" in decided, "api:oscar" in decided, "needs" in decided) == (True, True, False)


async def test_who_changed_their_mind(olga: httpx.AsyncClient, oscar: httpx.AsyncClient, engine: Engine) -> None:
    held = hold(engine, 7, 8)
    await told(olga, f"/ops/held/{held}/approve")
    rejected = await told(olga, f"/ops/held/{held}/reject")
    assert "needs a second operator" not in rejected.text
    first = await told(oscar, f"/ops/held/{held}/approve")
    assert ("the first of two" in first.text, "api:olga</strong>" in first.text) == (True, False)
