"""The control APIs and the simulators as processes of their own."""

import inspect
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lab.simulators.background import listen
from lab.simulators.control import ControlError, MainSiteControl, ProxmoxControl
from lab.simulators.main_site import FeedFaultKind, MainSiteServer, MainSiteVerbs
from lab.simulators.main_site.site import MainSite
from lab.simulators.proxmox.cluster import FakeCluster
from lab.simulators.proxmox.server import ProxmoxServer
from lab.simulators.proxmox.verbs import ProxmoxVerbs
from lab.simulators.verbs import verb_names
from runtime.processes.free_ports import free_port
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("verbs", "target"),
    [(verbs, target) for verbs, target in ((MainSiteVerbs, MainSite), (ProxmoxVerbs, FakeCluster))],
    ids=["main site", "proxmox"],
)
def test_every_verb_is_carried_out_with_the_same_arguments(verbs: type, target: type) -> None:
    for name in verb_names(verbs):
        listed, done = (inspect.signature(getattr(owner, name)) for owner in (verbs, target))
        assert listed == done, name


def test_the_main_site_obeys_over_http(site: MainSiteServer, feed: httpx.Client) -> None:
    with MainSiteControl(site.url, site.control_key) as control:
        assert control.is_ready()
        assert control.get_order(1001) == site.get_order(1001)
        assert [order.id for order in control.list_orders()] == list(range(1001, 1011))
        control.fault_feed(FeedFaultKind.STATUS, value=503, times=1)
        assert feed.get("/orders").status_code == 503
        control.hide_order(1001)
        assert feed.get("/orders/1001").status_code == 404
        control.clear_faults()
        assert feed.get("/orders/1001").status_code == 200


def test_proxmox_obeys_over_http(proxmox: ProxmoxServer, pve: httpx.Client) -> None:
    with ProxmoxControl(proxmox.url, proxmox.control_key, ca_file=proxmox.ca_file) as control:
        assert control.is_ready()
        made = control.add_guest(500, name="made", type="lxc", status="stopped")
        assert proxmox.find_guest(500) == made == control.find_guest(500)
        assert control.find_guest(501) is None
        control.set_token_rights({"/vms/500": ["VM.Audit"]})
        entries = pve.get("/cluster/resources?type=vm").json()["data"]
        assert [entry["vmid"] for entry in entries] == [500]
        control.remove_guest(500)
        assert [request.path for request in control.list_requests()][-1] == "/cluster/resources"


@pytest.mark.parametrize(
    ("verb", "arguments", "key", "status"),
    [
        ("get_order", {"order_id": 1001}, "wrong", 401),
        ("get_order", {"order_id": 1001}, None, 401),
        ("close", {}, "right", 404),
        ("_change", {}, "right", 404),
        ("get_order", {"order": 1001}, "right", 422),
        ("fault_feed", {"kind": "nonsense"}, "right", 422),
        ("get_order", {"order_id": 9}, "right", 409),
        ("send_call", {"order_id": 1001, "action": "create"}, "right", 409),
    ],
)
def test_what_the_main_sites_control_refuses(
    site: MainSiteServer, verb: str, arguments: Mapping[str, object], key: str | None, status: int
) -> None:
    headers = {} if key is None else {"X-Sim-Key": site.control_key if key == "right" else key}
    response = httpx.post(f"{site.url}/_sim/{verb}", json=arguments, headers=headers)
    assert response.status_code == status
    assert response.json()["status"] == "error"


@pytest.mark.parametrize(
    ("verb", "body", "key", "status"),
    [
        ("list_guests", "{}", "wrong", 401),
        ("take_planned", '{"path": "/"}', "right", 404),
        ("find_guest", '{"vmid": "many"}', "right", 422),
        ("remove_guest", '{"vmid": 9}', "right", 409),
        ("list_guests", "[1]", "right", 400),
        ("list_guests", "{", "right", 400),
    ],
)
def test_what_proxmoxs_control_refuses(proxmox: ProxmoxServer, verb: str, body: str, key: str, status: int) -> None:
    headers = {"X-Sim-Key": proxmox.control_key if key == "right" else key}
    context = ssl.create_default_context(cafile=proxmox.ca_file)
    response = httpx.post(f"{proxmox.url}/_sim/{verb}", content=body, headers=headers, verify=context)
    assert response.status_code == status
    assert response.json()["status"] == "error"


def test_the_feed_key_does_not_open_the_control_api(site: MainSiteServer) -> None:
    with MainSiteControl(site.url, site.api_key) as control, pytest.raises(ControlError) as refused:
        control.clear_faults()
    assert refused.value.status == 401


def test_a_simulator_that_is_away() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
    with MainSiteControl(f"http://127.0.0.1:{port}", "any-key-will-do") as control:
        assert not control.is_ready()
        with pytest.raises(ControlError) as silent:
            control.clear_faults()
    assert silent.value.status is None


# As processes --------------------------------------------------------------------------------------------


@contextmanager
def process(module: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def wait_until_ready(control: MainSiteControl | ProxmoxControl, child: subprocess.Popen[str]) -> None:
    wait_until(lambda: control.is_ready() or child.poll() is not None, "the simulator to come up")
    assert child.poll() is None, "the simulator ended"


def test_both_simulators_as_processes(tmp_path: Path) -> None:
    berlin, riga, site_port = free_port(), free_port(), free_port()
    control_key, api_key, token_secret = (secrets.token_urlsafe(24) for _ in range(3))
    clusters = [f"--cluster=berlin={berlin}", f"--cluster=riga={riga}"]
    token = {"SIM_PVE_TOKEN_ID": "panel@pve!sync", "SIM_PVE_TOKEN_SECRET": token_secret}
    with process(
        "lab.simulators.proxmox",
        *("--port", str(berlin), *clusters, "--directory", str(tmp_path)),
        environment={**token, "SIM_CONTROL_KEY": control_key},
    ) as proxmox_process:
        assert proxmox_process.stdout is not None
        names = [proxmox_process.stdout.readline().split(":")[0] for _ in range(2)]
        assert names == ["berlin", "riga"]
        assert sorted(path.name for path in (tmp_path / "riga").iterdir()) == ["ca.pem", "server.pem"]
        places = [
            {"name": name, "url": f"https://127.0.0.1:{port}", "ca_file": str(tmp_path / name / "ca.pem")}
            for name, port in (("berlin", berlin), ("riga", riga))
        ]
        with (
            process(
                "lab.simulators.main_site",
                *("--port", str(site_port)),
                environment={
                    "SIM_MAIN_SITE_API_KEY": api_key,
                    "SIM_CONTROL_KEY": control_key,
                    "SIM_PROXMOX": json.dumps(places),
                },
            ) as site_process,
            MainSiteControl(f"http://127.0.0.1:{site_port}", control_key) as site,
            ProxmoxControl(places[1]["url"], control_key, ca_file=Path(places[1]["ca_file"])) as cluster,
        ):
            wait_until_ready(site, site_process)
            user = site.add_user(username="ann", email="ann@example.org", panel_user_id=5)
            order = site.place_order(user_id=user.id, name="web", cluster="riga")
            site.set_status(order.id, "running")
            guest = cluster.find_guest(order.vmid or 0)
            assert guest is not None
            assert (guest.name, guest.status) == ("web", "running")
            listed = httpx.get(
                f"{places[1]['url']}/api2/json/cluster/resources?type=vm",
                headers={"Authorization": f"PVEAPIToken=panel@pve!sync={token_secret}"},
                verify=ssl.create_default_context(cafile=places[1]["ca_file"]),
            ).json()["data"]
            assert [entry["name"] for entry in listed] == ["web"]
            site_process.send_signal(signal.SIGTERM)
            assert site_process.wait(120) in (0, -signal.SIGTERM)
        proxmox_process.send_signal(signal.SIGTERM)
        assert proxmox_process.wait(120) == 0


@pytest.mark.parametrize(
    ("module", "arguments", "environment", "said"),
    [
        ("lab.simulators.main_site", (), {}, "SIM_MAIN_SITE_API_KEY is not set"),
        ("lab.simulators.main_site", (), {"SIM_MAIN_SITE_API_KEY": "short"}, "at least 16 printable ASCII"),
        ("lab.simulators.proxmox", ("--directory", "unused"), {}, "SIM_PVE_TOKEN_ID is not set"),
    ],
)
def test_a_missing_key_stops_the_start(
    module: str, arguments: tuple[str, ...], environment: Mapping[str, str], said: str
) -> None:
    with process(module, "--port", "0", *arguments, environment=environment) as child:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 2
        assert said in errors
