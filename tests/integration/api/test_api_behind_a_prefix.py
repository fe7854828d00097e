"""Behind a reverse proxy that shows the panel at /panel/ and cuts that off: what answers name is reachable there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.main import create_app
from panel.records.public import Place
from panel.settings import Settings
from tests.integration.api.conftest import Secrets, calling


@pytest.fixture(autouse=True)
def _own_place() -> Iterator[None]:
    yield
    Place.root = ""


@pytest.mark.parametrize("root", ["/panel/", "/panel", "/a/b"])
async def test_every_address_in_an_answer_begins_with_it(settings: Settings, secrets: Secrets, root: str) -> None:
    shown = root.rstrip("/")
    app = create_app(Settings(_env_file=None, **{**settings.model_dump(), "root_path": root}))
    vps = {"user_id": 5, "name": "shop", "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian 12", "status": "creating"}
    body = {"action": "create", "vps": {**vps, "hypervisor": "proxmox"}}
    async with app.router.lifespan_context(app), calling(app, {"X-API-Key": secrets.sync}) as caller:
        created = await caller.post("/api/vps/sync", json=body, headers={"Idempotency-Key": f"key-{root}"})
        again = await caller.post("/api/vps/sync", json=body, headers={"Idempotency-Key": f"key-{root}"})
        refused = await caller.get("/api/vps/sync/operations/999999")
        for answer in (created, again):
            url = answer.headers["Location"]
            assert answer.json()["operation"]["url"] == url
            assert url.startswith(f"{shown}/api/vps/sync/operations/")
        followed = await caller.get(created.headers["Location"].removeprefix(shown))
        assert followed.json()["operation"]["url"] == created.headers["Location"]
        assert refused.json()["instance"] == f"{shown}/api/vps/sync/operations/999999"
        assert app.openapi()["servers"] == [{"url": shown}]
