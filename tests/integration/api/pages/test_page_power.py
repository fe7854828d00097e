"""The power buttons of a VPS's page: who may press which, what a refusal looks like, and what is shown meanwhile."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.http.problems import ProblemError
from api.main import create_app
from api.pages import vps_routes
from panel.journal.calls import DatabaseAwayError
from panel.settings import ProxmoxCluster, Settings
from tests.integration.api.client.test_record_marks import marks
from tests.integration.api.conftest import Secrets
from tests.integration.api.pages.conftest import OWN, browser, form_token, sign_in
from tests.support.fleets.switchable import Place, make_switchable, spoil

CLUSTER = {"name": "main", "urls": ["https://pve.test:8006"], "token_id": "a@pve!b", "token_secret": "c" * 36}


@pytest.fixture(autouse=True)
def vps(engine: Engine, users: None) -> Place:
    return make_switchable(engine, Place(power="stopped"))


@pytest.fixture
async def switching(settings: Settings) -> AsyncIterator[FastAPI]:
    changed = {
        "power_actions": True,
        "power_actions_hour": 2,
        "proxmox_clusters": [ProxmoxCluster.model_validate(CLUSTER)],
    }
    made = create_app(settings.model_copy(update=changed))
    async with made.router.lifespan_context(made):
        yield made


def buttons(page: httpx.Response) -> list[str]:
    return re.findall(r'name="action" value="(\w+)"', page.text)


def notice(page: httpx.Response) -> str:
    found = re.search(r'<div class="banner bad" role="alert"><p>(.*?)</p>', page.text)
    assert found is not None, page.text
    assert '<section id="live" hx-get="/vps/1"' in page.text, "it is the page of the VPS, and renews itself"
    return found[1]


def power(page: httpx.Response) -> str:
    """What the page says of power, without markup."""
    assert page.status_code == 200
    part = page.text.partition('<article id="power">')[2].partition("</article>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", part)).strip()


def stored(engine: Engine) -> list[tuple[str, bool]]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT action, force FROM power_actions ORDER BY id"))
        return [(row.action, row.force) for row in rows]


def what_happened(page: httpx.Response) -> str:
    """The list of changes, without markup."""
    part = page.text.partition('<ol class="activity">')[2].partition("</ol>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", part)).strip()


async def press(client: httpx.AsyncClient, action: str, **fields: str) -> httpx.Response:
    data = {"form_token": form_token(await client.get("/")), "action": action} | fields
    return await client.post("/vps/1/power", data=data, headers=OWN)


async def test_it_is_off_by_default(app: FastAPI, secrets: Secrets, engine: Engine) -> None:
    async with browser(app) as anna:
        await sign_in(anna, secrets, 5)
        page = await anna.get("/vps/1")
        assert (page.status_code, buttons(page), power(page)) == (200, [], "")
        answer = await press(anna, "start")
    assert answer.status_code == 403
    assert notice(answer) == "The panel does not switch VPS on or off at the moment."
    assert stored(engine) == []


async def test_a_customer_switches_their_vps(
    switching: FastAPI, secrets: Secrets, engine: Engine, owner: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with browser(switching) as anna, browser(switching) as boris:
        await sign_in(anna, secrets, 5)
        await sign_in(boris, secrets, 6)
        await _what_is_refused(anna, boris)
        assert stored(engine) == []
        before = await marks(engine)
        await _started_once(anna)
        during = await marks(engine)
        assert '<span class="badge creating">Starting</span>' in (await anna.get("/")).text
        assert "Starting" not in (await boris.get("/")).text
        spoil(
            owner,
            "UPDATE power_actions SET state = 'failed', code = 'guest_locked', reason = 'because',"
            " ended_at = clock_timestamp()",
        )
        assert before != during, "open pages hear of it"
        assert await marks(engine) == before
        assert '<span class="badge stopped">Stopped</span>' in (await anna.get("/")).text
        for table in ("vps", "guests"):
            column = "power_state" if table == "vps" else "power"
            spoil(engine, f"UPDATE {table} SET {column} = 'running', status = 'running'")
        await _what_a_running_one_shows(anna)
        assert (await press(anna, "cut", sure="yes")).status_code == 303
        assert stored(engine) == [("start", False), ("stop", True)]
        spoil(
            owner,
            "UPDATE power_actions SET state = 'done', code = 'done', reason = 'because',"
            " ended_at = clock_timestamp() WHERE ended_at IS NULL",
        )
        limited = await press(anna, "stop")
        assert (limited.status_code, notice(limited)[:35]) == (429, "You asked for too many actions in o")
        assert int(limited.headers["Retry-After"]) > 3000
        spoil(engine, "UPDATE vps SET order_state = 'suspended', status = 'suspended'")
        page = await anna.get("/vps/1")
        assert buttons(page) == []
        assert power(page).startswith("Power This VPS is suspended, so it cannot be switched on or off. Last action:")
        await _what_cannot_be_checked(anna, monkeypatch)
        await _an_outcome_that_is_not_known(anna, monkeypatch)


async def _what_is_refused(anna: httpx.AsyncClient, boris: httpx.AsyncClient) -> None:
    assert buttons(await anna.get("/vps/1")) == ["start"]
    own = form_token(await anna.get("/"))
    cases: list[tuple[str, dict[str, str], dict[str, str], int]] = [
        ("boris's form token", {"form_token": form_token(await boris.get("/")), "action": "start"}, OWN, 403),
        ("no form token", {"action": "start"}, OWN, 403),
        ("another site", {"form_token": own, "action": "start"}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ("no such action", {"form_token": own, "action": "delete"}, OWN, 422),
    ]
    for name, data, headers, status in cases:
        assert (await anna.post("/vps/1/power", data=data, headers=headers)).status_code == status, name
    assert (await press(boris, "start")).status_code == 404
    unsure = await press(anna, "cut")
    assert unsure.status_code == 422
    assert notice(unsure).startswith("Nothing was done. Tick the box")


async def _started_once(anna: httpx.AsyncClient) -> None:
    answer = await press(anna, "start")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/vps/1")
    page = await anna.get("/vps/1")
    assert buttons(page) == []
    assert '<span class="badge creating">Starting</span>' in page.text, "not the state that is about to change"
    assert what_happened(page) == "", "it stands above"
    assert re.fullmatch(r"Power Starting, asked \d+ \w+ ago It begins in a moment\.", power(page))
    assert "every 5s" in page.text
    second = await press(anna, "stop")
    assert second.status_code == 409
    assert notice(second) == "Another action of this VPS is not over yet."
    assert "Starting" in second.text


async def _what_a_running_one_shows(anna: httpx.AsyncClient) -> None:
    page = await anna.get("/vps/1")
    assert buttons(page) == ["stop", "reboot", "cut", "restart"]
    assert "every 60s" in page.text
    gentle, closed, hard = page.text.partition('<details id="power-hard">')
    assert closed
    assert (gentle.count("Gently:"), hard.count("Not gently:")) == (2, 2)
    assert 'name="sure"' not in gentle
    assert [wish for wish in ("stop", "reboot") if '<button type="submit" class="quiet">' in form(gentle, wish)] == [
        "stop", "reboot",
    ], "one click stops the machine: it must not look like the thing to do"  # fmt: skip
    assert re.fullmatch(
        r"Start, as you asked: not done The server works on the machine .* you asked for it", what_happened(page)
    )
    assert hard.count('<input type="checkbox" name="sure" value="yes" required>') == 2
    assert re.search(r"Last action: Start, \d+ \w+ ago: not done The server works on the machine", power(page))
    assert "because" not in page.text, "sentences of the panel are English only"
    russian = power(await anna.get("/vps/1", headers={"Accept-Language": "ru"}))
    assert re.search(r"Последнее действие: Включить, .* назад: не выполнено Сервер сейчас работает", russian)


def form(page: str, wish: str) -> str:
    return page.partition(f'id="power-{wish}"')[2].partition("</form>")[0]


async def test_during_maintenance_no_state_is_shown_as_known(
    switching: FastAPI, secrets: Secrets, engine: Engine
) -> None:
    make_switchable(engine, Place(vps_id=2, vmid=101, fingerprint="smbios:b"))
    make_switchable(engine, Place(vps_id=3, user_id=6, vmid=102, fingerprint="smbios:c"))
    spoil(
        engine,
        "INSERT INTO pauses (target, paused_at, paused_until, paused_by, reason) SELECT t, now(), now() + i, 'zoe', 'x'"
        " FROM (VALUES ('vps:1', interval '1 hour'), ('user:6', interval '1 hour'), ('vps:2', interval '0')) p (t, i)",
    )
    async with browser(switching) as anna, browser(switching) as boris:
        await sign_in(anna, secrets, 5)
        await sign_in(boris, secrets, 6)
        page, others, his = await anna.get("/vps/1"), await anna.get("/vps/2"), await boris.get("/")
        listed = await anna.get("/")
    assert re.search(
        r'<span class="badge paused">Not checked during maintenance, last seen \d+ seconds? ago<', page.text
    )
    assert "Last known: Stopped" in page.text
    assert power(page) == "Power This VPS is in maintenance. Try again later."
    assert "maintenance" not in others.text, "its pause is over"
    assert listed.text.count("Not checked during maintenance") == 1
    assert his.text.count("Not checked during maintenance") == 1
    assert "zoe" not in page.text


async def _what_cannot_be_checked(anna: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> None:
        raise DatabaseAwayError("away")

    with monkeypatch.context() as patch:
        patch.setattr(vps_routes, "hindrance_now", away)
        page = await anna.get("/vps/1")
    assert buttons(page) == []
    assert power(page).startswith("Power The panel could not check in time whether this VPS can be switched.")


async def _an_outcome_that_is_not_known(anna: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: Any) -> None:
        raise ProblemError(503, "outcome_unknown", "lost", headers={"Retry-After": "5"})

    def away(*_: Any, **__: Any) -> None:
        raise DatabaseAwayError("away")

    monkeypatch.setattr(vps_routes, "accept", lost)
    answer = await press(anna, "start")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert notice(answer).startswith("It is not known whether your wish was accepted.")
    monkeypatch.setattr(vps_routes, "records_query", away)
    answer = await press(anna, "start")
    assert answer.status_code == 503
    assert "It is not known whether your wish was accepted." in answer.text
    assert "cannot read its data" not in answer.text
