"""The main site's calls: exactly the documented form, and every fault as the panel meets it."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from lab.simulators.background import BackgroundServer
from lab.simulators.main_site import CallFaultKind, CallOutcome, MainSiteServer, Order
from lab.simulators.provisioning import ProxmoxGuests
from lab.simulators.proxmox.server import ProxmoxServer
from tests.support.waiting import PATIENCE_S

SYNC_KEY = "a-sync-key-of-at-least-32-characters"


class RecordingPanel:
    """Answers sync calls as the panel does and remembers what arrived, in order."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.refusal: JSONResponse | None = None
        self.app.post("/api/vps/sync")(self.sync)

    async def sync(self, request: Request) -> JSONResponse:
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("X-API-Key"))
        if self.refusal is not None:
            return self.refusal
        vps_id = body["vps"].get("id", 700 + len(self.bodies))
        return JSONResponse({"status": "success", "message": "ok", "vps": {"id": vps_id}}, status_code=202)

    @property
    def seen(self) -> list[tuple[str, str | None]]:
        return [(body["action"], body["vps"].get("status")) for body in self.bodies]


@pytest.fixture(scope="module")
def panel_server() -> Iterator[tuple[RecordingPanel, str]]:
    panel = RecordingPanel()
    with BackgroundServer(panel.app) as server:
        yield panel, server.url


@pytest.fixture
def panel(panel_server: tuple[RecordingPanel, str]) -> RecordingPanel:
    panel = panel_server[0]
    panel.bodies.clear()
    panel.keys.clear()
    panel.refusal = None
    return panel


@pytest.fixture
def site(panel: RecordingPanel, panel_server: tuple[RecordingPanel, str]) -> Iterator[MainSiteServer]:
    site = MainSiteServer(panel_url=panel_server[1], sync_key=SYNC_KEY)
    site.add_user(username="ann", email="ann@example.org", panel_user_id=5)
    with site:
        yield site


def order(
    site: MainSiteServer, *, cluster: str | None = None, ip_address: str | None = None, ip6_address: str | None = None
) -> Order:
    return site.place_order(
        user_id=1,
        name="web-server-01",
        cpu=4,
        ram_mb=8192,
        disk_gb=100,
        cluster=cluster,
        ip_address=ip_address,
        ip6_address=ip6_address,
    )


def test_the_three_documented_calls_and_nothing_more(site: MainSiteServer, panel: RecordingPanel) -> None:
    placed = order(site)
    site.set_status(placed.id, "running")
    site.set_status(placed.id, "suspended")
    site.cancel_order(placed.id)
    assert panel.bodies == [
        {
            "action": "create",
            "vps": {
                "user_id": 5,
                "name": "web-server-01",
                "status": "creating",
                "cpu": 4,
                "ram": 8192,
                "disk": 100,
                "os": "Ubuntu 22.04",
                "hypervisor": "proxmox",
            },
        },
        {"action": "update", "vps": {"id": 701, "status": "running"}},
        {"action": "update", "vps": {"id": 701, "status": "suspended"}},
        {"action": "delete", "vps": {"id": 701}},
    ]
    assert set(panel.keys) == {SYNC_KEY}
    assert site.get_order(placed.id).panel_vps_id == 701


def test_the_extended_form_names_order_and_guest(site: MainSiteServer, panel: RecordingPanel) -> None:
    site.set_extended(extended=True)
    placed = order(site, cluster="main", ip_address="192.0.2.7", ip6_address="2001:db8::7")
    site.change_order(placed.id, node="pve1", vmid=100)
    site.send_call(placed.id, "create")
    site.set_status(placed.id, "running")
    extra = {"order_id": 1, "cluster": "main", "guest_type": "qemu", "ip_address": "192.0.2.7"}
    extra["ip6_address"] = "2001:db8::7"
    assert extra.items() <= panel.bodies[0]["vps"].items()
    assert {**extra, "node": "pve1", "vmid": 100}.items() <= panel.bodies[1]["vps"].items()
    assert panel.bodies[2]["vps"] == {"id": 702, "order_id": 1, "status": "running"}


def test_an_order_creates_a_guest_that_follows_its_status(panel_server: tuple[RecordingPanel, str]) -> None:
    with ProxmoxServer() as proxmox:
        site = MainSiteServer(guests=ProxmoxGuests({"main": proxmox}), extended=True)
        with site:
            site.add_user(username="ann", email="ann@example.org")
            placed = order(site)
            assert (placed.cluster, placed.node, placed.vmid) == ("main", "pve1", 100)
            guest = proxmox.find_guest(100)
            assert guest is not None
            assert (guest.name, guest.cores, guest.memory_mb, guest.disk_gb) == ("web-server-01", 4, 8192, 100)
            powers = []
            for status in ("running", "suspended", "running", "stopped"):
                site.set_status(placed.id, status)
                found = proxmox.find_guest(100)
                powers.append(found.status if found else None)
            assert powers == ["running", "stopped", "running", "stopped"]
            site.cancel_order(placed.id)
            assert proxmox.find_guest(100) is None


def test_a_user_unknown_to_the_panel_cannot_be_told_of(site: MainSiteServer, panel: RecordingPanel) -> None:
    bob = site.add_user(username="bob", email="bob@example.org")
    site.place_order(user_id=bob.id, name="web")
    assert panel.bodies == []
    assert [call.outcome for call in site.list_calls()] == [CallOutcome.IMPOSSIBLE]
    site.link_user(bob.id, 6)
    assert site.send_call(1, "create").outcome is CallOutcome.ANSWERED
    assert panel.bodies[0]["vps"]["user_id"] == 6


def test_dropped(site: MainSiteServer, panel: RecordingPanel) -> None:
    site.fault_calls(CallFaultKind.DROP, action="create")
    placed = order(site)
    site.set_status(placed.id, "running")
    assert panel.bodies == []
    # Without an answer to the create there is no id to update by, in the documented form.
    outcomes = [call.outcome for call in site.list_calls(order_id=placed.id)]
    assert outcomes == [CallOutcome.DROPPED, CallOutcome.IMPOSSIBLE]
    order(site)
    assert panel.seen == [("create", "creating")]


def test_the_next_two_updates_are_dropped(site: MainSiteServer, panel: RecordingPanel) -> None:
    site.fault_calls(CallFaultKind.DROP, action="update", times=2)
    placed = order(site)
    for status in ("running", "stopped", "running"):
        site.set_status(placed.id, status)
    site.cancel_order(placed.id)
    assert panel.seen == [("create", "creating"), ("update", "running"), ("delete", None)]


def test_the_answer_is_lost_and_a_retry_makes_a_second_create(site: MainSiteServer, panel: RecordingPanel) -> None:
    site.fault_calls(CallFaultKind.LOSE_ANSWER, action="create")
    placed = order(site)
    assert (placed.panel_vps_id, panel.seen) == (None, [("create", "creating")])
    assert site.list_calls()[0].outcome is CallOutcome.ANSWER_LOST
    retried = site.send_call(placed.id, "create")
    assert (retried.vps_id, site.get_order(placed.id).panel_vps_id) == (702, 702)
    assert panel.bodies[0] == panel.bodies[1]


def test_delayed(site: MainSiteServer, panel: RecordingPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = threading.Event()

    class Timer(threading.Timer):
        """Its time begins once the test has looked."""

        def run(self) -> None:
            assert looked_at.wait(PATIENCE_S)
            super().run()

    placed = order(site)
    monkeypatch.setattr(threading, "Timer", Timer)
    site.fault_calls(CallFaultKind.DELAY, action="update", delay_s=0.2)
    site.set_status(placed.id, "running")
    assert panel.seen == [("create", "creating")]
    assert site.list_calls()[1].outcome is CallOutcome.WAITING
    assert not site.drain(timeout_s=0.01)
    looked_at.set()
    assert site.drain(timeout_s=PATIENCE_S)
    assert panel.seen[1:] == [("update", "running")]
    assert site.list_calls()[1].outcome is CallOutcome.ANSWERED


def test_duplicated(site: MainSiteServer, panel: RecordingPanel) -> None:
    site.fault_calls(CallFaultKind.DUPLICATE, action="create")
    placed = order(site)
    assert panel.seen == [("create", "creating")] * 2
    assert site.list_calls()[0].deliveries == 2
    assert placed.panel_vps_id == 702


def test_reordered(site: MainSiteServer, panel: RecordingPanel) -> None:
    placed = order(site)
    site.fault_calls(CallFaultKind.REORDER, action="update")
    site.set_status(placed.id, "running")
    site.set_status(placed.id, "suspended")
    assert panel.seen[1:] == [("update", "suspended"), ("update", "running")]


def test_draining_sends_what_reordering_holds_back(site: MainSiteServer, panel: RecordingPanel) -> None:
    site.fault_calls(CallFaultKind.REORDER, action="create")
    placed = order(site)
    assert panel.seen == []
    assert site.drain()
    assert panel.seen == [("create", "creating")]
    assert site.get_order(placed.id).panel_vps_id == 701


def test_faults_stay_until_cleared_when_they_have_no_number(site: MainSiteServer, panel: RecordingPanel) -> None:
    site.fault_calls(CallFaultKind.DROP, times=None)
    for _ in range(3):
        order(site)
    assert panel.bodies == []
    site.clear_faults()
    order(site)
    assert len(panel.bodies) == 1


def test_a_refusal_is_remembered_with_the_panels_words(site: MainSiteServer, panel: RecordingPanel) -> None:
    panel.refusal = JSONResponse({"message": "User 5 does not exist"}, status_code=422)
    order(site)
    call = site.list_calls()[0]
    assert (call.outcome, call.status, call.message) == (CallOutcome.REFUSED, 422, "User 5 does not exist")


def test_a_panel_that_is_away_does_not_stop_the_shop() -> None:
    with BackgroundServer(FastAPI()) as gone:
        url = gone.url
    with MainSiteServer(panel_url=url, sync_key=SYNC_KEY) as site:
        site.add_user(username="ann", email="ann@example.org", panel_user_id=5)
        assert order(site).status == "creating"
        assert site.list_calls()[0].outcome is CallOutcome.UNREACHABLE
