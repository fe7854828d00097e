"""The API with signed links, and browsers that look at its pages."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from panel.settings import Settings
from tests.integration.api.conftest import Secrets
from tests.support.keys import random_key

SITE = "https://shop.test/my"
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def link_secret() -> str:
    return random_key()


@pytest.fixture
def settings(settings: Settings, link_secret: str) -> Settings:
    given = settings.model_dump() | {"sign_in_secret": SecretStr(link_secret), "sign_in_url": SITE}
    return Settings(_env_file=None, **given)


def browser(app: FastAPI, language: str = "en") -> httpx.AsyncClient:
    """A browser that came by HTTPS. It keeps cookies and follows no redirect."""
    transport = httpx.ASGITransport(app)
    headers = {"Accept-Language": language}
    return httpx.AsyncClient(transport=transport, base_url="https://panel.test", headers=headers)


@pytest.fixture
async def visitor(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of somebody who is not signed in."""
    async with browser(app) as made:
        yield made


def signed(secret: str, user_id: object = 5, username: str = "anna", email: str = "", ago_s: float = 0) -> str:
    """A sign-in link as the main site makes it, ``ago_s`` seconds ago."""
    values = [str(user_id), username, email, str(int(time.time() - ago_s))]
    signature = hmac.new(secret.encode(), "\n".join(values).encode(), hashlib.sha256).hexdigest()
    names = ("user_id", "username", "email", "time", "signature")
    return "/sign-in?" + urlencode(dict(zip(names, [*values, signature], strict=True)))


async def sign_in(client: httpx.AsyncClient, secrets: Secrets, user_id: int = 5) -> None:
    """Sign in by a token."""
    answer = await client.post("/sign-in", data={"token": secrets.token(user_id)}, headers=OWN)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/"), answer.text


def form_token(page: httpx.Response) -> str:
    """What the forms of a page carry."""
    found = re.search(r'name="form_token" value="(\w+)"', page.text)
    assert found is not None
    return found[1]
