"""The Proxmox simulator in trouble: what a token may not see, and every fault of nodes and answers, seen over HTTP."""

import ssl
import time

import httpx
import pytest

from lab.simulators.proxmox.server import ProxmoxServer
from tests.integration.lab.bulk_list import BULK, bulk, statuses
from tests.support.waiting import PATIENCE_S

# The token -----------------------------------------------------------------------------------------------


def test_a_blind_token_sees_an_empty_list_and_knows_its_rights(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.blind_token()
    assert bulk(pve) == []
    assert pve.get("/nodes/pve1/qemu").json()["data"] == []
    assert pve.get("/access/permissions?path=/vms").json()["data"] == {"/vms": {}}
    status = pve.get("/cluster/status")
    assert (status.status_code, status.reason_phrase) == (403, "Permission check failed (/, Sys.Audit)")
    proxmox.restore_token()
    assert len(bulk(pve)) == 3


def test_a_token_scoped_to_one_guest(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.set_token_rights({"/vms/100": ["VM.Audit"]})
    assert [entry["vmid"] for entry in bulk(pve)] == [100]
    assert pve.get("/nodes/pve2/qemu/1000/config").status_code == 403


def test_the_users_rights_cap_the_tokens(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.set_user_rights({"/vms/1000": ["VM.Audit"]})
    assert [entry["vmid"] for entry in bulk(pve)] == [1000]
    assert pve.get("/access/permissions?path=/vms").json()["data"] == {"/vms": {}}


@pytest.mark.parametrize(
    "authorization",
    [None, "", "PVEAPIToken=panel@pve!sync=wrong", "Bearer something"],
    ids=["none", "empty", "wrong secret", "other scheme"],
)
def test_a_login_that_fails_is_late_and_empty(pve: httpx.Client, authorization: str | None) -> None:
    if authorization is None:
        del pve.headers["Authorization"]
    else:
        pve.headers["Authorization"] = authorization
    assert_late_empty_401(pve)


def test_a_revoked_token(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.revoke_token()
    assert_late_empty_401(pve)
    proxmox.set_unauthorized_delay(0)
    assert pve.get(BULK).status_code == 401
    proxmox.restore_token()
    assert pve.get(BULK).status_code == 200


def assert_late_empty_401(pve: httpx.Client) -> None:
    started = time.monotonic()
    response = pve.get("/version")
    assert time.monotonic() - started >= 0.15
    assert (response.status_code, response.content) == (401, b"")
    assert "content-type" not in response.headers
    assert response.headers["connection"] == "close"


# Faults --------------------------------------------------------------------------------------------------


def test_an_offline_nodes_guests_keep_their_values_and_then_are_unknown(
    pve: httpx.Client, proxmox: ProxmoxServer
) -> None:
    proxmox.set_node_online("pve1", online=False)
    proxmox.set_status(100, "stopped")
    assert statuses(pve) == {100: "running", 1000: "stopped", 101: "running"}
    assert bulk(pve)[0]["name"] == "web"
    nodes = {entry["name"]: entry["online"] for entry in pve.get("/cluster/status").json()["data"][1:]}
    assert nodes == {"pve1": 0, "pve2": 1, "pve3": 1}
    by_node = {entry["node"]: entry["status"] for entry in pve.get("/cluster/resources?type=node").json()["data"]}
    assert by_node == {"pve1": "offline", "pve2": "online", "pve3": "online"}
    proxmox.expire_status_cache()
    gone = bulk(pve)[0]
    assert gone == {
        "id": "qemu/100",
        "vmid": 100,
        "node": "pve1",
        "type": "qemu",
        "status": "unknown",
        "tags": "pnl-a",
    }
    assert statuses(pve) == {100: "unknown", 1000: "stopped", 101: "unknown"}
    proxmox.set_node_online("pve1", online=True)
    assert statuses(pve) == {100: "stopped", 1000: "stopped", 101: "running"}


def test_the_status_cache_runs_out_by_itself() -> None:
    with ProxmoxServer(status_cache_s=0.0) as server:
        server.add_guest(100)
        server.set_node_online("pve1", online=False)
        response = httpx.get(
            f"{server.url}/api2/json{BULK}",
            headers={"Authorization": server.authorization},
            verify=ssl.create_default_context(cafile=server.ca_file),
        )
    assert response.json()["data"][0]["status"] == "unknown"


def test_an_offline_node_is_595_without_a_body(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.set_node_online("pve1", online=False)
    for path in ("/nodes/pve1/qemu", "/nodes/pve1/lxc", "/nodes/pve1/qemu/100/status/current"):
        assert_empty(pve.get(path), 595)
    assert pve.get("/nodes/pve2/qemu").status_code == 200


@pytest.mark.parametrize("status", [595, 596])
def test_a_node_that_cannot_be_reached(pve: httpx.Client, proxmox: ProxmoxServer, status: int) -> None:
    proxmox.fail_node("pve1", status, after_s=0.1)
    started = time.monotonic()
    assert_empty(pve.get("/nodes/pve1/qemu/100/status/current"), status)
    assert time.monotonic() - started >= 0.1
    assert len(bulk(pve)) == 3
    proxmox.fail_node("pve1", None)
    assert pve.get("/nodes/pve1/qemu").status_code == 200


def assert_empty(response: httpx.Response, status: int) -> None:
    assert (response.status_code, response.content) == (status, b"")
    assert "content-type" not in response.headers


def test_without_quorum_reads_go_on(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.set_quorum(quorate=False)
    assert pve.get("/cluster/status").json()["data"][0]["quorate"] == 0
    assert len(bulk(pve)) == 3
    proxmox.set_quorum(quorate=True)
    assert pve.get("/cluster/status").json()["data"][0]["quorate"] == 1


def test_a_frozen_list_shows_the_past(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.freeze_list()
    proxmox.remove_guest(100)
    proxmox.add_guest(300)
    assert statuses(pve) == {100: "running", 1000: "stopped", 101: "running"}
    proxmox.blind_token()
    assert bulk(pve) == []
    proxmox.restore_token()
    proxmox.freeze_list(frozen=False)
    assert sorted(statuses(pve)) == [101, 300, 1000]


def test_an_empty_list_although_the_token_may_see_everything(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.empty_list()
    assert bulk(pve) == []
    assert "VM.Audit" in pve.get("/access/permissions?path=/vms").json()["data"]["/vms"]
    assert len(pve.get("/nodes/pve1/qemu").json()["data"]) == 1


def test_everything_is_unknown(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.all_unknown()
    assert set(statuses(pve).values()) == {"unknown"}
    assert all("name" not in entry and "maxmem" not in entry for entry in bulk(pve))


def test_one_guest_is_unknown(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.set_status(100, "unknown")
    assert statuses(pve) == {100: "unknown", 1000: "stopped", 101: "running"}
    proxmox.set_status(100, "running")
    assert statuses(pve)[100] == "running"


def test_an_answer_that_ends_in_mid_body(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.truncate_answers("/cluster/resources", times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        pve.get(BULK)
    assert len(bulk(pve)) == 3


def test_a_configuration_that_may_not_be_read(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.forbid_config(100)
    response = pve.get("/nodes/pve1/qemu/100/config?current=1")
    assert (response.status_code, response.reason_phrase) == (403, "Permission check failed (/vms/100, VM.Audit)")
    assert pve.get("/nodes/pve1/qemu/100/status/current").status_code == 200
    proxmox.forbid_config(100, forbidden=False)
    assert pve.get("/nodes/pve1/qemu/100/config?current=1").status_code == 200


@pytest.mark.parametrize("in_body", [True, False], ids=["since 2025", "before"])
def test_error_text_in_the_body_or_only_in_the_reason_phrase(
    pve: httpx.Client, proxmox: ProxmoxServer, in_body: bool
) -> None:
    proxmox.fail_answers("/cluster/resources", status=500, message="got timeout", in_body=in_body, times=1)
    response = pve.get(BULK)
    assert (response.status_code, response.reason_phrase) == (500, "got timeout")
    assert response.json().get("message") == ("got timeout\n" if in_body else None)
    assert pve.get(BULK).status_code == 200


def test_the_version_is_what_it_is_told_to_be(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.set_version("9.0.5")
    assert pve.get("/version").json()["data"]["version"] == "9.0.5"


def test_slow(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.slow_down(600)
    with pytest.raises(httpx.ReadTimeout):
        pve.get("/version", timeout=httpx.Timeout(PATIENCE_S, read=0.1))


def test_configuration_changed_behind_everybodys_back(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    proxmox.change_guest(100, uuid="11111111-2222-4333-8444-555555555555", memory_mb=8192, name="new", tags="")
    config = pve.get("/nodes/pve1/qemu/100/config?current=1").json()["data"]
    assert config["smbios1"] == "uuid=11111111-2222-4333-8444-555555555555"
    entry = bulk(pve)[0]
    assert (entry["name"], entry["maxmem"]) == ("new", 8192 * 1024**2)
    assert "tags" not in entry


def test_requests_are_counted(pve: httpx.Client, proxmox: ProxmoxServer) -> None:
    before = len(proxmox.list_requests())
    bulk(pve)
    # A request that an earlier test gave up may be counted only now.
    seen = [request for request in proxmox.list_requests()[before:] if request.path != "/version"]
    assert [(request.method, request.path, request.status) for request in seen] == [("GET", "/cluster/resources", 200)]
