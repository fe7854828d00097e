"""Pages behind a reverse proxy that shows the panel at /panel and cuts that off: nothing leads out of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from html import unescape

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine
from starlette.types import Receive, Scope, Send

from api.main import create_app
from panel.records import public
from panel.settings import ProxmoxCluster, Settings
from tests.integration.api.conftest import Secrets
from tests.integration.api.operator_pages.test_operator_pages import dead_call
from tests.integration.api.pages.conftest import OWN, form_token
from tests.support.fleets.switchable import Place, make_switchable

ROOT = "/panel"
CLUSTER = {"name": "main", "urls": ["https://pve.test:8006"], "token_id": "a@pve!b", "token_secret": "c" * 36}
ADDRESS = re.compile(r'="(/[^"]*)"')
FOLLOWED = re.compile(r'<(?:a|link|script)\b[^>]* (?:href|src)="(/[^"]*)"')


@pytest.fixture(autouse=True)
def _own_place() -> Iterator[None]:
    yield
    public.Place.root = ""


@pytest.fixture(autouse=True)
def vps(engine: Engine, users: None) -> Place:
    return make_switchable(engine)


@pytest.fixture
async def below(settings: Settings, secrets: Secrets) -> AsyncIterator[FastAPI]:
    changed = {
        "root_path": ROOT,
        "power_actions": True,
        "proxmox_clusters": [ProxmoxCluster.model_validate(CLUSTER)],
        "ops_api_key": SecretStr(secrets.operator),
    }
    made = create_app(settings.model_copy(update=changed))
    async with made.router.lifespan_context(made):
        yield made


@pytest.fixture
async def visitor(below: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that reaches the panel through the proxy alone. It follows no redirect."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        assert path.startswith(f"{ROOT}/"), f"{path} is not the panel's"
        cut = path.removeprefix(ROOT)
        await below({**scope, "path": cut, "raw_path": cut.encode()}, receive, send)

    transport = httpx.ASGITransport(proxy)
    async with httpx.AsyncClient(transport=transport, base_url="https://shop.test") as made:
        yield made


def cookie(answer: httpx.Response) -> tuple[str, str]:
    """Name and path of the one cookie that an answer sets."""
    (line,) = answer.headers.get_list("set-cookie")
    found = re.search(r"; Path=([^;]+)", line)
    assert found is not None
    return line.partition("=")[0], found[1]


async def looked_at(visitor: httpx.AsyncClient, start: str) -> set[str]:
    """Every page and file that is reached from this one by links; each is there, and names no address of elsewhere."""
    waiting, seen = [start], {start}
    while waiting:
        answer = await visitor.get(waiting.pop())
        if answer.is_redirect:
            found = [answer.headers["Location"]]
        else:
            assert answer.status_code == 200, answer.request.url
            html = answer.headers["Content-Type"].startswith("text/html")
            named = ADDRESS.findall(answer.text) if html else []
            strays = [one for one in named if not one.startswith(f"{ROOT}/") and one != ROOT]
            assert strays == [], answer.request.url
            found = [unescape(one) for one in FOLLOWED.findall(answer.text)] if html else []
        for path in (one.partition("?")[0].partition("#")[0] for one in found):
            assert path.startswith(f"{ROOT}/"), answer.request.url
            if path not in seen:
                seen.add(path)
                waiting.append(path)
    return seen


async def test_a_customer_s_pages_stay_below_it(visitor: httpx.AsyncClient, secrets: Secrets) -> None:
    turned_away = await visitor.get(f"{ROOT}/")
    assert (turned_away.status_code, turned_away.headers["Location"]) == (303, f"{ROOT}/sign-in")
    renewed = await visitor.get(f"{ROOT}/vps/1", headers={"HX-Request": "true"})
    assert (renewed.status_code, renewed.headers["HX-Redirect"]) == (401, f"{ROOT}/sign-in")
    signed_in = await visitor.post(f"{ROOT}/sign-in", data={"token": secrets.token(5)}, headers=OWN)
    assert (signed_in.status_code, signed_in.headers["Location"]) == (303, f"{ROOT}/")
    assert cookie(signed_in) == ("__Host-panel_session", "/"), "a cookie of that name belongs to the whole host"
    pages = await looked_at(visitor, f"{ROOT}/")
    assert {f"{ROOT}/vps/1", f"{ROOT}/language/ru"} <= pages
    assert any(one.startswith(f"{ROOT}/static/") for one in pages)
    form = {"form_token": form_token(await visitor.get(f"{ROOT}/vps/1"))}
    pressed = await visitor.post(f"{ROOT}/vps/1/power", data={**form, "action": "stop"}, headers=OWN)
    assert (pressed.status_code, pressed.headers["Location"]) == (303, f"{ROOT}/vps/1"), pressed.text
    left = await visitor.post(f"{ROOT}/sign-out", data=form, headers=OWN)
    assert (left.status_code, left.headers["Location"]) == (303, f"{ROOT}/sign-in?signed-out")


async def test_an_operator_s_pages_and_cookie_stay_below_it(
    visitor: httpx.AsyncClient, secrets: Secrets, engine: Engine
) -> None:
    dead_call(engine, 1)
    turned_away = await visitor.get(f"{ROOT}/ops")
    assert turned_away.status_code == 303
    assert turned_away.headers["Location"].startswith(f"{ROOT}/ops/sign-in")
    signed_in = await visitor.post(f"{ROOT}/ops/sign-in", data={"key": secrets.operator}, headers=OWN)
    assert (signed_in.status_code, signed_in.headers["Location"]) == (303, f"{ROOT}/ops")
    assert cookie(signed_in) == ("__Secure-panel_operator", f"{ROOT}/ops")
    pages = await looked_at(visitor, f"{ROOT}/ops")
    assert {f"{ROOT}/ops/{name}" for name in ("held", "findings", "inbox", "vps", "runs", "pauses", "drift")} <= pages
    form = {"form_token": form_token(await visitor.get(f"{ROOT}/ops/vps"))}
    fields = {"target": "vps:1", "reason": "a move", "for_s": "60"}
    paused = await visitor.post(f"{ROOT}/ops/pauses/pause", data=form | fields, headers=OWN)
    assert paused.status_code == 303, paused.text
    assert paused.headers["Location"].startswith(f"{ROOT}/ops/")
    left = await visitor.post(f"{ROOT}/ops/sign-out", data=form, headers=OWN)
    assert (left.status_code, left.headers["Location"]) == (303, f"{ROOT}/ops/sign-in?signed-out")
    assert cookie(left) == ("__Secure-panel_operator", f"{ROOT}/ops")


async def test_a_power_action_is_followed_below_it(visitor: httpx.AsyncClient, secrets: Secrets) -> None:
    headers = {"Authorization": f"Bearer {secrets.token(5)}"}
    asked = await visitor.post(f"{ROOT}/api/vps/1/stop", headers=headers)
    assert asked.status_code == 202, asked.text
    url = asked.headers["Location"]
    assert url == asked.json()["operation"]["url"]
    assert url.startswith(f"{ROOT}/api/vps/1/actions/")
    followed = await visitor.get(url, headers=headers)
    assert (followed.status_code, followed.json()["operation"]["url"]) == (200, url)
