"""A customer switches a VPS and looks at its statistics: real API, relay, workers and servers, and a simulated
Proxmox."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.databases import Database, Databases
from tests.support.live_panel import QUICK, LivePanel, Outside, live_panel, outside
from tests.support.trouble.drift import CLIENT, history, sold
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance]


@pytest.fixture(scope="module")
def world() -> Iterator[Outside]:
    with outside() as made:
        yield made


@pytest.fixture(scope="module")
def database(databases: Databases) -> Iterator[Database]:
    made = databases.clone()
    yield made
    databases.drop(made)


@pytest.fixture(scope="module")
def panel(database: Database, world: Outside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePanel]:
    environment = QUICK | world.environment() | {"POWER_ACTIONS": "true"}
    directory = tmp_path_factory.mktemp("power")
    with live_panel(database, directory, environment=environment, statistics=True) as made:
        made.wait_users()
        yield made


class Customer:
    """Presses buttons, and looks what came of it."""

    def __init__(self, panel: LivePanel, vps_id: int) -> None:
        self.url = f"{panel.url}/api/vps/{vps_id}"
        self.headers = {"Authorization": f"Bearer {panel.token(CLIENT)}"}

    def presses(self, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Press until the panel is sure of the machine: after a change its identity is read again first."""

        def accepted() -> dict[str, Any] | None:
            answer = httpx.post(f"{self.url}/{action}", json=body or {}, headers=self.headers, trust_env=False)
            if answer.status_code == 202:
                return dict(answer.json()["operation"])
            assert answer.status_code in {409, 503}, answer.text
            return None

        operation = wait_until(accepted, f"{action} to be accepted")
        assert operation is not None
        return operation

    def looks(self, operation: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/actions/{operation['id']}"
        answer = httpx.get(url, headers=self.headers, trust_env=False)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["operation"])

    def sees_the_end(self, operation: dict[str, Any]) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            now = self.looks(operation)
            return now if now["ended_at"] is not None else None

        found = wait_until(ended, f"the end of {operation['action']}")
        assert found is not None
        return found


def posts(world: Outside) -> list[str]:
    """The power commands that arrived."""
    return [seen.path.rpartition("/")[2] for seen in world.pve.list_requests() if seen.method == "POST"]


def test_a_customer_stops_and_starts_a_vps_while_the_worker_dies(panel: LivePanel, world: Outside) -> None:
    order, vps_id = sold(panel, world, "switched")
    assert order.vmid is not None
    customer = Customer(panel, vps_id)
    assert customer.sees_the_end(customer.presses("stop"))["state"] == "done"
    guest = world.pve.find_guest(order.vmid)
    assert guest is not None
    assert guest.status == "stopped"
    panel.wait_status(CLIENT, "switched", "stopped")

    panel.process("worker-power").kill()
    started = customer.presses("start")
    assert customer.looks(started)["state"] == "queued"
    panel.restart("worker-power")
    assert customer.sees_the_end(started)["state"] == "done"
    panel.wait_status(CLIENT, "switched", "running")

    world.pve.truncate_answers(f"/nodes/{guest.node}/qemu/{order.vmid}/status/reset", times=1)
    lost = customer.sees_the_end(customer.presses("restart"))
    assert lost["state"] == "done", "the answer was cut off, and the task was found"
    assert posts(world) == ["shutdown", "start", "reset"]
    told = history(panel, vps_id)
    for action in ("shut down", "start", "reset"):
        assert re.search(rf"customer {CLIENT}( \(\S+\))? asked: {action}; done ", told), told


def test_a_customer_looks_at_statistics(panel: LivePanel, world: Outside) -> None:
    order, vps_id = sold(panel, world, "measured")
    assert order.vmid is not None
    world.pve.set_measured(order.vmid, 7200)
    customer = Customer(panel, vps_id)

    def read() -> dict[str, Any] | None:
        answer = httpx.get(f"{customer.url}/stats", headers=customer.headers, trust_env=False)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data if data["as_of"] is not None and data["code"] == "no_measurements" else None

    found = wait_until(read, "the statistics to be read")
    assert found is not None
    assert found["points"] == [], "the VPS is some seconds old"
    asked = [seen for seen in world.pve.list_requests() if seen.path.endswith(f"/qemu/{order.vmid}/rrddata")]
    assert {seen.status for seen in asked} == {200}
