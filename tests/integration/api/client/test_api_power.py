"""Power actions by HTTP: switched off by default, only on one's own VPS, one at a time, with a reason for each no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from api.client import power_models
from api.main import create_app
from panel.settings import ProxmoxCluster, Settings
from tests.integration.api.conftest import Secrets, calling
from tests.support.fleets.switchable import Place, make_switchable, spoil

ACTIONS = ("start", "stop", "reboot", "restart")
CLUSTER = {"name": "main", "urls": ["https://pve.test:8006"], "token_id": "a@pve!b", "token_secret": "c" * 36}


@pytest.fixture(autouse=True)
def vps(engine: Engine, users: None) -> Place:
    return make_switchable(engine)


@pytest.fixture
async def switching(settings: Settings) -> AsyncIterator[FastAPI]:
    changed = {
        "power_actions": True,
        "power_actions_hour": 3,
        "proxmox_clusters": [ProxmoxCluster.model_validate(CLUSTER)],
    }
    made = create_app(settings.model_copy(update=changed))
    async with made.router.lifespan_context(made):
        yield made


@pytest.fixture
async def anna(switching: FastAPI, secrets: Secrets) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(switching, {"Authorization": f"Bearer {secrets.token(5)}"}) as client:
        yield client


@pytest.fixture
async def boris(switching: FastAPI, secrets: Secrets) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(switching, {"Authorization": f"Bearer {secrets.token(6)}"}) as client:
        yield client


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def finish(owner: Engine, state: str = "done") -> None:
    ended = "code = 'c', reason = 'It is so', ended_at = clock_timestamp()"
    spoil(owner, f"UPDATE power_actions SET state = '{state}', {ended} WHERE ended_at IS NULL")


async def test_it_is_off_by_default(app: FastAPI, secrets: Secrets) -> None:
    async with calling(app, {"Authorization": f"Bearer {secrets.token(5)}"}) as client:
        for action in ACTIONS:
            assert problem(await client.post(f"/api/vps/1/{action}")) == (403, "power_actions_off")


async def test_an_action_is_accepted_and_followed(
    anna: httpx.AsyncClient, boris: httpx.AsyncClient, owner: Engine
) -> None:
    for action, body, force in (("reboot", None, False), ("stop", {"force": True}, True), ("stop", {}, False)):
        answer = await anna.post(f"/api/vps/1/{action}", json=body) if body is not None else await anna.post(
            f"/api/vps/1/{action}"
        )  # fmt: skip
        assert answer.status_code == 202, answer.text
        shown = power_models.PowerAnswer.model_validate_json(answer.content).operation
        assert (shown.action, shown.force, shown.state, shown.vps_id) == (action, force, "queued", 1)
        assert answer.headers["Location"] == shown.url == f"/api/vps/1/actions/{shown.id}"
        assert problem(await boris.get(shown.url)) == (404, "vps_unknown")
        finish(owner, "failed")
        followed = await anna.get(shown.url)
        ended = power_models.PowerActionAnswer.model_validate_json(followed.content).operation
        assert (ended.id, ended.state, ended.reason) == (shown.id, "failed", "It is so")
    latest = power_models.PowerActionsAnswer.model_validate_json((await anna.get("/api/vps/1/actions")).content)
    assert [one.action for one in latest.data] == ["stop", "stop", "reboot"]
    assert problem(await boris.get("/api/vps/1/actions")) == (404, "vps_unknown")
    assert problem(await anna.get(f"/api/vps/1/actions/{shown.id + 1}")) == (404, "action_unknown")


async def test_who_gets_a_vps_sees_nothing_of_its_former_customers_actions(
    anna: httpx.AsyncClient, boris: httpx.AsyncClient, engine: Engine
) -> None:
    url = (await anna.post("/api/vps/1/stop")).json()["operation"]["url"]
    spoil(engine, "UPDATE vps SET user_id = 6")
    assert (await boris.get("/api/vps/1/actions")).json()["data"] == []
    assert problem(await boris.get(url)) == (404, "action_unknown")
    assert problem(await anna.get(url)) == (404, "vps_unknown")


async def test_one_at_a_time(anna: httpx.AsyncClient) -> None:
    first = (await anna.post("/api/vps/1/start")).json()["operation"]
    second = await anna.post("/api/vps/1/stop")
    assert problem(second) == (409, "power_action_in_progress")
    assert second.json()["operation"] == first


async def test_too_many_in_an_hour(anna: httpx.AsyncClient, owner: Engine) -> None:
    for _ in range(3):
        assert (await anna.post("/api/vps/1/start")).status_code == 202
        finish(owner)
    limited = await anna.post("/api/vps/1/start")
    assert problem(limited) == (429, "too_many_power_actions")
    assert 3500 < int(limited.headers["Retry-After"]) <= 3601


async def test_somebody_elses_vps_does_not_exist(
    anna: httpx.AsyncClient, boris: httpx.AsyncClient, engine: Engine
) -> None:
    assert problem(await boris.post("/api/vps/1/stop", json={"force": True})) == (404, "vps_unknown")
    assert problem(await anna.post("/api/vps/77/stop")) == (404, "vps_unknown")
    spoil(engine, "UPDATE vps SET deleted_at = clock_timestamp(), deleted_reason = 'sync'")
    assert problem(await anna.post("/api/vps/1/stop")) == (404, "vps_unknown")


REFUSED = [
    ("UPDATE vps SET order_state = 'suspended'", (409, "vps_suspended"), None),
    ("UPDATE vps SET power_as_of = clock_timestamp() - interval '1 h'", (409, "facts_stale"), "10"),
    ("UPDATE vps SET link_state = 'pushed'", (409, "identity_unverified"), None),
    ("UPDATE guests SET fingerprint = 'smbios:b'", (409, "another_machine"), None),
    ("INSERT INTO source_states (source, unwell_since, unwell_cause) VALUES ('proxmox:main', clock_timestamp(),"
     " 'unread')", (503, "cluster_away"), "10"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected", "retry"), REFUSED, ids=[case[1][1] for case in REFUSED])
async def test_a_refusal_says_why(
    anna: httpx.AsyncClient, engine: Engine, change: str, expected: tuple[int, str], retry: str | None
) -> None:
    spoil(engine, change)
    answer = await anna.post("/api/vps/1/stop")
    assert problem(answer) == expected
    assert answer.headers.get("Retry-After") == retry
    assert len(answer.json()["message"]) > 20


WRONG: list[tuple[str, Any, tuple[int, str]]] = [
    ("stop", {"force": "yes"}, (422, "invalid_field")),
    ("stop", {"force": 1}, (422, "invalid_field")),
    ("stop", [True], (422, "invalid_field")),
    ("reboot", {"force": True}, (422, "invalid_field")),
]


async def test_a_wrong_body_is_refused(anna: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for action, body, expected in WRONG:
        with subtests.test(f"{action} {body}"):
            assert problem(await anna.post(f"/api/vps/1/{action}", json=body)) == expected
    assert problem(await anna.post("/api/vps/1/stop", content=b"force=1")) == (415, "unsupported_media_type")
    headers = {"Content-Type": "application/json"}
    assert problem(await anna.post("/api/vps/1/stop", content=b"{", headers=headers)) == (400, "invalid_json")
    assert (await anna.get("/api/vps/1/actions")).json()["data"] == []


async def test_without_a_token_nothing(switching: FastAPI) -> None:
    async with calling(switching, {}) as nobody:
        for action in ACTIONS:
            assert problem(await nobody.post(f"/api/vps/1/{action}")) == (401, "token_missing")
