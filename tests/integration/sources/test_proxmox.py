"""The cluster source against the Proxmox simulator, over TLS, through every fault that it can be given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from domain.guests import GuestType, PowerState
from domain.source_protocols import Found, Gone, Unclear
from lab.simulators.proxmox.server import ProxmoxServer
from sources.config import ClusterConfig
from sources.proxmox.cluster import ClusterSource

NODES = frozenset({"pve1", "pve2", "pve3"})
UUID = "8d3f1e64-0c5b-4e0c-9a77-3f4f5d2b1a00"


@pytest.fixture(scope="module")
def server() -> Iterator[ProxmoxServer]:
    with ProxmoxServer(endpoints=2, unauthorized_delay_s=0.0) as running:
        running.add_guest(100, node="pve1", name="web", uuid=UUID, tags="blue")
        running.add_guest(101, node="pve2", type="lxc", mac="BC:24:11:00:00:01", status="stopped")
        running.add_guest(102, node="pve3", status="paused")
        yield running


@pytest.fixture
def pve(server: ProxmoxServer) -> Iterator[ProxmoxServer]:
    yield server
    server.clear_faults()
    server.restore_token()


def source_of(pve: ProxmoxServer, *, pin: bool = False) -> ClusterSource:
    config = ClusterConfig(
        name=pve.name,
        urls=tuple(pve.urls),
        token_id=pve.token_id,
        token_secret=SecretStr(pve.token_secret),
        ca_file=None if pin else Path(pve.ca_file),
        fingerprint=pve.fingerprint if pin else None,
    )
    source = ClusterSource(config)
    assert isinstance(source, ClusterSource)
    return source


@pytest.mark.parametrize("pin", [False, True], ids=["authority", "fingerprint"])
def test_a_healthy_cluster(pve: ProxmoxServer, *, pin: bool) -> None:
    source = source_of(pve, pin=pin)
    reading = source.read()
    assert reading.problems == ()
    assert reading.trusted
    assert reading.complete
    assert reading.nodes_complete == NODES
    assert [(guest.vmid, guest.node, guest.power) for guest in reading.guests] == [
        (100, "pve1", PowerState.RUNNING),
        (101, "pve2", PowerState.STOPPED),
        (102, "pve3", PowerState.STOPPED),
    ]
    web = reading.guests[0]
    assert (web.name, web.cores, web.memory_mb, web.disk_gb, web.tags) == ("web", 2.0, 4096, 50, ("blue",))
    assert source.health().ok


def test_identities(pve: ProxmoxServer) -> None:
    source = source_of(pve)
    machine = source.config("pve1", GuestType.QEMU, 100)
    container = source.config("pve2", GuestType.LXC, 101)
    assert isinstance(machine, Found)
    assert isinstance(container, Found)
    assert machine.value.fingerprint == f"smbios:{UUID}"
    assert container.value.fingerprint == "mac:bc:24:11:00:00:01"
    assert (machine.value.cores, machine.value.memory_mb, machine.value.disk_gb) == (2.0, 4096, 50)
    pve.forbid_config(100)
    hidden = source.config("pve1", GuestType.QEMU, 100)
    assert isinstance(hidden, Found)
    assert hidden.value.forbidden


def test_a_removed_guest_is_gone_and_a_migrated_one_is_found(pve: ProxmoxServer) -> None:
    source = source_of(pve)
    pve.add_guest(110, node="pve1")
    pve.migrate(110, "pve3")
    for found in (source.confirm("pve1", GuestType.QEMU, 110), source.config("pve1", GuestType.QEMU, 110)):
        assert isinstance(found, Found)
        assert found.value.node == "pve3"
    pve.remove_guest(110)
    assert isinstance(source.confirm("pve3", GuestType.QEMU, 110), Gone)
    pve.add_guest(110, node="pve2", uuid=UUID[::-1].translate(str.maketrans("", "", "-")).lower())
    reused = source.confirm("pve3", GuestType.QEMU, 110)
    assert isinstance(reused, Found)
    assert reused.value.node == "pve2"
    pve.remove_guest(110)


@pytest.mark.parametrize("doubt", ["offline", "quorum", "blind", "595", "truncated"])
def test_a_removed_guest_is_unclear_while_there_is_doubt(pve: ProxmoxServer, doubt: str) -> None:
    source = source_of(pve)
    assert isinstance(source.confirm("pve1", GuestType.QEMU, 120), Gone)
    if doubt == "offline":
        pve.set_node_online("pve1", online=False)
    elif doubt == "quorum":
        pve.set_quorum(quorate=False)
    elif doubt == "blind":
        pve.blind_token()
    elif doubt == "595":
        pve.fail_node("pve2", 595)
    else:
        pve.truncate_answers("/cluster/resources")
    assert isinstance(source.confirm("pve1", GuestType.QEMU, 120), Unclear)


def test_a_node_that_is_away_blocks_no_confirmation_on_the_others(pve: ProxmoxServer) -> None:
    source = source_of(pve)
    pve.set_node_online("pve2", online=False)
    assert isinstance(source.confirm("pve1", GuestType.QEMU, 120), Gone)
    assert isinstance(source.confirm("pve2", GuestType.QEMU, 120), Unclear)
    assert isinstance(source.confirm("pve1", GuestType.LXC, 101), Unclear), "it moved to the node that is away"


def test_an_offline_nodes_guests_keep_their_place_without_power(pve: ProxmoxServer) -> None:
    source = source_of(pve)
    pve.set_node_online("pve2", online=False)
    reading = source.read()
    assert reading.trusted
    assert reading.nodes_complete == NODES - {"pve2"}
    assert not reading.complete
    assert {guest.vmid: guest.power for guest in reading.guests}[101] is PowerState.UNKNOWN
    pve.expire_status_cache()
    assert {guest.vmid: guest.power for guest in source.read().guests} == {
        100: PowerState.RUNNING,
        101: PowerState.UNKNOWN,
        102: PowerState.STOPPED,
    }


def test_an_empty_answer_of_a_blind_token_is_not_an_empty_cluster(pve: ProxmoxServer) -> None:
    pve.blind_token()
    reading = source_of(pve).read()
    assert not reading.trusted
    assert not reading.complete
    assert "lacks VM.Audit on /vms" in reading.problems[0]


def test_a_token_without_sys_audit_proves_nothing(pve: ProxmoxServer) -> None:
    pve.set_token_rights({"/vms": ["VM.Audit"]})
    reading = source_of(pve).read()
    assert not reading.trusted
    assert "Sys.Audit" in reading.problems[0]


def test_a_revoked_token_is_tried_once(pve: ProxmoxServer) -> None:
    source = source_of(pve)
    pve.revoke_token()
    before = len(pve.list_requests())
    for _ in range(3):
        assert not source.read().trusted
    assert [seen.status for seen in pve.list_requests()[before:]] == [401]


def test_a_cluster_that_forgot_every_state_is_not_trusted(pve: ProxmoxServer) -> None:
    pve.all_unknown()
    reading = source_of(pve).read()
    assert not reading.trusted
    assert {guest.power for guest in reading.guests} == {PowerState.UNKNOWN}


def test_a_frozen_minority_list_is_not_trusted(pve: ProxmoxServer) -> None:
    pve.freeze_list()
    pve.set_quorum(quorate=False)
    reading = source_of(pve).read()
    assert not reading.trusted
    assert reading.nodes_complete == frozenset()


@pytest.mark.parametrize("path", ["/version", "/access/permissions", "/cluster/status", "/cluster/resources"])
def test_a_cut_answer_moves_the_whole_read_to_the_other_endpoint(pve: ProxmoxServer, path: str) -> None:
    pve.truncate_answers(path, times=1)
    assert source_of(pve).read().complete
    pve.truncate_answers(path)
    reading = source_of(pve).read()
    assert not reading.trusted
    assert "before the whole answer had arrived" in reading.problems[0]


def test_an_endpoint_that_is_down_is_passed_over(pve: ProxmoxServer) -> None:
    pve.set_endpoint_up(0, up=False)
    source = source_of(pve)
    assert source.read().complete
    pve.set_endpoint_up(1, up=False)
    assert not source.read().trusted
    pve.set_endpoint_up(0, up=True)
    assert source.read().complete


def test_a_slow_version_is_named(pve: ProxmoxServer) -> None:
    pve.set_version("9.0.5")
    reading = source_of(pve).read()
    assert reading.trusted
    assert reading.nodes_complete == frozenset()
    assert "9.0.5" in reading.warnings[0]
    assert not source_of(pve).health().ok
    pve.set_version("9.2.1")


def test_a_standalone_host_needs_no_quorum() -> None:
    with ProxmoxServer(nodes=("solo",), standalone=True) as solo:
        solo.add_guest(100, node="solo")
        source = source_of(solo)
        assert source.read().complete
        assert isinstance(source.confirm("solo", GuestType.QEMU, 101), Gone)
