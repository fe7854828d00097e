"""The Proxmox simulator: the endpoints that the panel reads, and how they are reached."""

import hashlib
import re
import socket
import ssl
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from lab.simulators.proxmox.server import ProxmoxServer
from tests.integration.lab.bulk_list import BULK, bulk, statuses

# The endpoints -------------------------------------------------------------------------------------------


def test_the_bulk_list_is_sorted_by_vmid_as_text(pve: httpx.Client) -> None:
    entries = bulk(pve)
    assert [entry["id"] for entry in entries] == ["qemu/100", "qemu/1000", "lxc/101"]
    web = entries[0]
    assert (web["name"], web["node"], web["status"], web["tags"]) == ("web", "pve1", "running", "pnl-a")
    assert (web["maxcpu"], web["maxmem"], web["maxdisk"]) == (2, 4096 * 1024**2, 50 * 1024**3)


def test_configurations_tell_plan_and_identity(pve: httpx.Client) -> None:
    machine = pve.get("/nodes/pve1/qemu/100/config?current=1").json()["data"]
    assert machine["smbios1"] == "uuid=0b7a4a4e-3c8b-4b0e-9d55-0f1f3b7a1c11"
    assert (machine["memory"], machine["cores"], machine["sockets"]) == ("4096", 2, 1)
    assert machine["scsi0"].endswith(",size=50G")
    container = pve.get("/nodes/pve1/lxc/101/config?current=1").json()["data"]
    assert "hwaddr=BC:24:11:00:00:65" in container["net0"]
    assert (container["hostname"], container["memory"]) == ("box", 1024)
    assert container["rootfs"].endswith(",size=8G")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/nodes/pve1/qemu", [100]),
        ("/nodes/pve2/qemu", [1000]),
        ("/nodes/pve1/lxc", [101]),
        ("/nodes/pve3/lxc", []),
    ],
)
def test_lists_of_a_node(pve: httpx.Client, path: str, expected: list[int]) -> None:
    assert [guest["vmid"] for guest in pve.get(path).json()["data"]] == expected


def test_cluster_nodes_and_token_rights(pve: httpx.Client) -> None:
    cluster, *nodes = pve.get("/cluster/status").json()["data"]
    assert (cluster["type"], cluster["quorate"], cluster["nodes"]) == ("cluster", 1, 3)
    assert [(node["name"], node["online"]) for node in nodes] == [("pve1", 1), ("pve2", 1), ("pve3", 1)]
    assert {entry["node"] for entry in pve.get("/nodes").json()["data"]} == {"pve1", "pve2", "pve3"}
    rights = pve.get("/access/permissions?path=/vms").json()["data"]
    assert list(rights) == ["/vms"]
    assert rights["/vms"]["VM.Audit"] == 1


def test_a_standalone_host_has_no_cluster_entry() -> None:
    with ProxmoxServer(nodes=("solo",), standalone=True) as server:
        response = httpx.get(
            f"{server.url}/api2/json/cluster/status",
            headers={"Authorization": server.authorization},
            verify=ssl.create_default_context(cafile=server.ca_file),
        )
    assert [entry["type"] for entry in response.json()["data"]] == ["node"]


@pytest.mark.parametrize("status", ["paused", "prelaunch", "io-error", "guest-panicked", "stopped", "running"])
def test_qemus_own_states_show_in_the_bulk_list(pve: httpx.Client, proxmox: ProxmoxServer, status: str) -> None:
    proxmox.set_status(100, status)
    assert statuses(pve)[100] == status
    current = pve.get("/nodes/pve1/qemu/100/status/current").json()["data"]
    assert current["qmpstatus"] == status
    assert current["status"] == ("stopped" if status == "stopped" else "running")


def test_a_container_is_never_paused(proxmox: ProxmoxServer) -> None:
    with pytest.raises(ValueError, match="running or stopped"):
        proxmox.set_status(101, "paused")


def test_lock_template_and_tags_show(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.set_lock(100, "backup")
    proxmox.add_guest(102, template=True, status="stopped", tags="Pnl-B")
    entries = {entry["vmid"]: entry for entry in bulk(pve)}
    assert (entries[100]["lock"], entries[102]["template"], entries[102]["tags"]) == ("backup", 1, "pnl-b")
    proxmox.set_lock(100, None)
    assert "lock" not in bulk(pve)[0]


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/nodes/pve2/qemu/100/status/current", "nodes/pve2/qemu-server/100.conf"),
        ("/nodes/pve1/qemu/999/config?current=1", "nodes/pve1/qemu-server/999.conf"),
        ("/nodes/pve2/lxc/101/config?current=1", "nodes/pve2/lxc/101.conf"),
    ],
    ids=["on another node", "gone", "container on another node"],
)
def test_gone_and_elsewhere_are_the_same_500(pve: httpx.Client, path: str, file: str) -> None:
    response = pve.get(path)
    assert response.status_code == 500
    assert response.reason_phrase == f"Configuration file '{file}' does not exist"


def test_migrated_and_removed(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.migrate(100, "pve3")
    assert bulk(pve)[0]["node"] == "pve3"
    assert pve.get("/nodes/pve3/qemu/100/status/current").status_code == 200
    proxmox.remove_guest(100)
    assert 100 not in statuses(pve)


def test_the_lowest_free_vmid_is_given_out_again(proxmox: ProxmoxServer) -> None:
    assert proxmox.create_guest(name="a").vmid == 102
    proxmox.remove_guest(100)
    assert [proxmox.create_guest(name=name).vmid for name in ("b", "c")] == [100, 103]


def test_a_reused_vmid_shows_its_former_guest_until_the_node_reports(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.remove_guest(100)
    proxmox.add_guest(100, name="new", status="stopped", memory_mb=1024, reported_after_s=30)
    stale = bulk(pve)[0]
    assert (stale["name"], stale["status"], stale["maxmem"]) == ("web", "running", 4096 * 1024**2)
    assert pve.get("/nodes/pve1/qemu").json()["data"][0]["name"] == "new"
    proxmox.clear_faults()
    assert bulk(pve)[0]["name"] == "new"


def test_power_and_its_task(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    upid = pve.post("/nodes/pve1/qemu/100/status/stop").json()["data"]
    assert task(pve, upid)["exitstatus"] == "OK"
    assert statuses(pve)[100] == "stopped"


@pytest.mark.parametrize(
    ("lock", "action", "exit_status"),
    [(None, "shutdown", "OK"), (None, "reset", "VM 1000 not running"), ("backup", "stop", "VM is locked (backup)")],
)
def test_qemu_tells_refusals_in_the_task(
    pve: httpx.Client, proxmox: ProxmoxServer, lock: str | None, action: str, exit_status: str
) -> None:
    proxmox.set_lock(1000, lock)
    response = pve.post(f"/nodes/pve2/qemu/1000/status/{action}")
    assert response.status_code == 200
    finished = task(pve, response.json()["data"])
    assert (finished["status"], finished["exitstatus"]) == ("stopped", exit_status)


def test_a_running_container_refuses_a_start_at_once(pve: httpx.Client) -> None:
    response = pve.post("/nodes/pve1/lxc/101/status/start")
    assert (response.status_code, response.reason_phrase) == (500, "CT 101 already running")


def test_an_unknown_task_is_400(pve: httpx.Client) -> None:
    assert pve.get("/nodes/pve1/tasks/UPID%3Anone/status").status_code == 400


def task(pve: httpx.Client, upid: str) -> dict[str, Any]:
    path = f"/nodes/{upid.split(':')[1]}/tasks/{quote(upid, safe='')}/status"
    return dict(pve.get(path).json()["data"])


# Transport -----------------------------------------------------------------------------------------------


def test_the_certificate_is_its_own_authoritys(proxmox: ProxmoxServer) -> None:
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(proxmox.url)


def test_the_fingerprint_is_that_of_the_certificate_served(proxmox: ProxmoxServer) -> None:
    host, port = proxmox.url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=proxmox.ca_file)
    with (
        socket.create_connection((host, int(port))) as raw,
        context.wrap_socket(raw, server_hostname=host) as connection,
    ):
        certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    digest = hashlib.sha256(certificate).hexdigest().upper()
    assert proxmox.fingerprint == ":".join(re.findall("..", digest))


@pytest.mark.parametrize(("accepted", "encoding"), [("gzip", "gzip"), ("identity", None)])
def test_large_answers_are_compressed(
    pve: httpx.Client, proxmox: ProxmoxServer, accepted: str, encoding: str | None
) -> None:
    for vmid in range(200, 210):
        proxmox.add_guest(vmid)
    response = pve.get(BULK, headers={"Accept-Encoding": accepted})
    assert response.headers.get("content-encoding") == encoding
    assert len(response.json()["data"]) == 13
    assert "content-encoding" not in pve.get("/version", headers={"Accept-Encoding": "gzip"}).headers


def test_errors_close_the_connection_and_the_hundredth_request_too(pve: httpx.Client) -> None:
    assert pve.get("/nodes/pve1/qemu/999/config").headers["connection"] == "close"
    closed = [pve.get("/version").headers.get("connection") == "close" for _ in range(101)]
    assert closed.index(True) == 99
    assert closed.count(True) == 1


def test_one_of_two_addresses_goes_down(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.set_endpoint_up(0, up=False)
    with pytest.raises(httpx.RemoteProtocolError):
        pve.get("/version")
    assert pve.get(f"{proxmox.urls[1]}/api2/json/version").status_code == 200
    proxmox.set_endpoint_up(0, up=True)
    assert pve.get("/version").status_code == 200


def test_the_cluster_entry_has_what_the_panel_needs(proxmox: ProxmoxServer) -> None:
    entry = proxmox.settings()
    assert (entry["name"], len(entry["urls"]), entry["ca_file"]) == ("main", 2, str(proxmox.ca_file))
    assert f"PVEAPIToken={entry['token_id']}={entry['token_secret']}" == proxmox.authorization
    assert proxmox.settings(pin_fingerprint=True)["fingerprint"] == proxmox.fingerprint
