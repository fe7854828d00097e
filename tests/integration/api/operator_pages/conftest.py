"""The API with two operators, Olga who decides and Rita who only looks, and their browsers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from panel.settings import OperatorKey, Settings
from tests.integration.api.pages.conftest import OWN, browser, form_token
from tests.support.keys import random_key


@dataclass
class Keys:
    """The operators' keys."""

    olga: str = field(default_factory=random_key)
    rita: str = field(default_factory=random_key)

    def operators(self) -> tuple[OperatorKey, ...]:
        return (
            OperatorKey(name="olga", role="operate", key=SecretStr(self.olga)),
            OperatorKey(name="rita", role="read", key=SecretStr(self.rita)),
        )


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def settings(settings: Settings, keys: Keys) -> Settings:
    return settings.model_copy(update={"ops_api_keys": keys.operators()})


async def sign_in_operator(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post("/ops/sign-in", data={"key": key}, headers=OWN)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ops"), answer.text


@pytest.fixture
async def olga(app: FastAPI, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """The browser of an operator who decides."""
    async with browser(app) as made:
        await sign_in_operator(made, keys.olga)
        yield made


@pytest.fixture
async def rita(app: FastAPI, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """The browser of an operator who only looks."""
    async with browser(app) as made:
        await sign_in_operator(made, keys.rita)
        yield made


async def sent(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    """The answer to a form of the session's own pages."""
    token = form_token(await client.get("/ops/vps"))
    return await client.post(path, data={"form_token": token, **fields}, headers=OWN)


async def told(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    """The page to which a form leads, with the notice of what was done."""
    answer = await sent(client, path, **fields)
    assert answer.status_code == 303, answer.text
    page = await client.get(answer.headers["Location"])
    assert page.status_code == 200
    assert 'role="status"' in page.text, "it says what was done"
    return page
