"""Proxmox answers -> values: recorded shapes, and that nothing of any shape can break the parsers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.guests import GuestType, ListedGuest, PowerState
from domain.source_protocols import GuestConfig
from sources.outgoing.faults import Malformed
from sources.proxmox.answers import (
    Listed,
    Membership,
    guests_of,
    holds,
    membership_of,
    read_config,
    version_of,
    version_problem,
    vmids_of,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
RESOURCE_FIELDS = ["vmid", "node", "type", "status", "name", "maxcpu", "maxmem", "maxdisk", "tags", "lock", "template"]
CONFIG_FIELDS = ["smbios1", "net0", "net1", "cores", "sockets", "memory", "scsi0", "ide2", "rootfs", "mp0"]
UUID = "8D3F1E64-0C5B-4E0C-9A77-3F4F5D2B1A00"


def entry(vmid: object = 100, **fields: object) -> dict[str, object]:
    return {"id": f"qemu/{vmid}", "vmid": vmid, "node": "pve1", "type": "qemu", "status": "running", **fields}


def listed(*entries: object) -> Listed:
    found = guests_of("main", list(entries))
    assert found is not None
    return found


def test_guests_that_only_look_alike_are_read_each_for_itself() -> None:
    """True equals 1 in Python, and 2 equals 2.0; a list is no value at all."""
    told = [
        entry(1, maxcpu=1, template=0),
        entry(2, maxcpu=True, template=False),
        entry(3, maxcpu=1.0, template=0),
        entry(4, maxcpu=[1], template=0),
        entry(5, maxcpu=1, template=1, tags={"a": 1}),
        entry(6, maxcpu=1, status=["running"]),
    ]
    for _ in range(2):  # once read, once remembered
        found = listed(*told)
        assert [guest.cores for guest in found.guests] == [1.0, None, 1.0, None, 1.0]
        assert [guest.template for guest in found.guests] == [False, False, False, False, True]
        assert found.blurred == {"pve1"}


def test_an_entry_becomes_a_guest_in_the_panels_units() -> None:
    told = entry(
        name="web",
        maxcpu=2,
        maxmem=4294967296,
        maxdisk=53687091200,
        tags="Blue;pnl-1",
        lock="backup",
        template=0,
        uptime=5,
        pool="customers",
    )
    assert listed(told) == Listed(
        guests=(
            ListedGuest(
                cluster="main",
                vmid=100,
                guest_type=GuestType.QEMU,
                node="pve1",
                status="running",
                power=PowerState.RUNNING,
                name="web",
                lock="backup",
                cores=2.0,
                memory_mb=4096,
                disk_gb=50,
                tags=("blue", "pnl-1"),
                uptime_s=5.0,
            ),
        ),
        blurred=frozenset(),
    )


@pytest.mark.parametrize(
    ("fields", "power"),
    [
        ({"status": "stopped"}, PowerState.STOPPED),
        ({"status": "stopped", "lock": "suspended"}, PowerState.STOPPED),
        ({"status": "paused"}, PowerState.STOPPED),
        ({"status": "suspended"}, PowerState.STOPPED),
        ({"status": "io-error"}, PowerState.ERROR),
        ({"status": "inmigrate"}, PowerState.UNKNOWN),
        ({"status": "unknown"}, PowerState.UNKNOWN),
        ({"status": "paused", "type": "lxc"}, PowerState.UNKNOWN),
    ],
)
def test_power_follows_the_status_word(fields: dict[str, object], power: PowerState) -> None:
    assert listed(entry(**fields)).guests[0].power is power


def test_a_guest_without_a_report_has_no_sizes() -> None:
    (guest,) = listed({"id": "lxc/7", "vmid": 7, "node": "pve1", "type": "lxc", "status": "unknown"}).guests
    assert (guest.name, guest.cores, guest.memory_mb, guest.disk_gb, guest.tags) == (None, None, None, None, ())


def test_half_a_core_and_templates_are_kept() -> None:
    (guest,) = listed(entry(type="lxc", maxcpu=0.5, template=1)).guests
    assert (guest.cores, guest.template) == (0.5, True)


@pytest.mark.parametrize(
    ("field", "reported", "attribute", "value"),
    [
        pytest.param("maxmem", 2**51 - 2**20, "memory_mb", 2**31 - 1, id="the most memory there is room for"),
        pytest.param("maxmem", 2**51, "memory_mb", None, id="more memory than there is room for"),
        pytest.param("maxmem", 2**53 - 1, "memory_mb", None, id="memory without end"),
        pytest.param("maxdisk", 2**53 - 1, "disk_gb", 2**23, id="a disk without end"),
        pytest.param("maxcpu", 2**52, "cores", None, id="cores without end"),
        pytest.param("uptime", 300_000_000_000, "uptime_s", None, id="running since before all time"),
        pytest.param("uptime", 2**31 - 1, "uptime_s", 2.0**31 - 1, id="running since 1958"),
    ],
)
def test_a_number_without_room_in_the_panel_counts_as_not_reported(
    field: str, reported: int, attribute: str, value: object
) -> None:
    (guest,) = listed(entry(**{field: reported})).guests
    assert getattr(guest, attribute) == value


@pytest.mark.parametrize(
    ("odd", "blurred"),
    [
        pytest.param(entry(vmid="x"), "pve1", id="no VMID"),
        pytest.param(entry(vmid=True), "pve1", id="a truth value for a VMID"),
        pytest.param(entry(status=None), "pve1", id="no status"),
        pytest.param(entry(type=None), "pve1", id="no type"),
        pytest.param(entry(node=None), None, id="no node"),
        pytest.param(entry(node=5), None, id="a number for a node"),
        pytest.param("guest", None, id="no object"),
    ],
)
def test_an_unreadable_entry_blurs_its_node(odd: object, blurred: str | None) -> None:
    found = listed(entry(101, node="pve2"), odd)
    assert [guest.vmid for guest in found.guests] == [101]
    assert found.blurred == frozenset({blurred})


def test_a_doubled_vmid_is_believed_nowhere() -> None:
    found = listed(entry(100), entry(100, node="pve2"), entry(101))
    assert [guest.vmid for guest in found.guests] == [101]
    assert found.blurred == frozenset({"pve1", "pve2"})


def test_other_kinds_of_resources_are_passed_over() -> None:
    assert listed({"type": "node", "node": "pve1", "status": "online"}) == Listed((), frozenset())


@given(data=JSON | st.lists(st.dictionaries(st.sampled_from(RESOURCE_FIELDS), JSON), max_size=4))
def test_any_listing_can_be_read(data: object) -> None:
    found = guests_of("main", data)
    assert (found is None) == (not isinstance(data, list))
    vmids = vmids_of(data)
    assert vmids is None or isinstance(data, list)


def test_a_nodes_own_list_is_all_or_nothing() -> None:
    assert vmids_of([{"vmid": 100}, {"vmid": "101"}]) == frozenset({100, 101})
    assert vmids_of([{"vmid": 100}, {"name": "x"}]) is None
    assert vmids_of({"vmid": 100}) is None
    assert vmids_of([]) == frozenset()


def config(guest_type: GuestType, **fields: object) -> GuestConfig:
    found = read_config("pve1", guest_type, fields)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("guest_type", "fields", "expected"),
    [
        (GuestType.QEMU, {"ipconfig0": "ip=203.0.113.5/24,gw=203.0.113.1"}, "203.0.113.5"),
        (GuestType.QEMU, {"ipconfig1": "ip=10.0.0.5/8", "ipconfig0": "ip=dhcp,ip6=auto"}, "10.0.0.5"),
        (GuestType.QEMU, {"ipconfig2": "ip=10.0.0.5/8", "ipconfig0": "ip=203.0.113.5"}, "203.0.113.5"),
        (GuestType.LXC, {"net0": "name=eth0,bridge=vmbr0,ip=203.0.113.6/32,ip6=2001:db8::6/64"}, "203.0.113.6"),
        (GuestType.LXC, {"net0": "name=eth0,bridge=vmbr0,ip=manual"}, None),
        (GuestType.LXC, {"ipconfig0": "ip=203.0.113.5/24"}, None),
        (GuestType.QEMU, {"net0": "virtio=BC:24:11:AA:BB:CC,ip=203.0.113.5/24"}, None),
        (GuestType.QEMU, {"ipconfig0": "ip=203.0.113.500/24"}, None),
        (GuestType.QEMU, {"ipconfig0": 5}, None),
        (GuestType.QEMU, {}, None),
    ],
)
def test_its_fixed_address(guest_type: GuestType, fields: dict[str, object], expected: str | None) -> None:
    assert config(guest_type, **fields).ip_address == expected


def test_a_virtual_machines_configuration() -> None:
    found = config(
        GuestType.QEMU,
        smbios1=f"uuid={UUID},manufacturer=UUVN,base64=1",
        cores=2,
        sockets=2,
        memory="4096",
        scsi0="local-lvm:vm-100-disk-0,iothread=1,size=32G",
        virtio1="local-lvm:vm-100-disk-1,size=512M",
        ide2="local:iso/debian.iso,media=cdrom,size=600G",
        efidisk0="local-lvm:vm-100-disk-2,size=4M",
        unused0="local-lvm:vm-100-disk-3,size=99G",
        net0="virtio=BC:24:11:AA:BB:CC,bridge=vmbr0",
    )
    assert found == GuestConfig(
        fingerprint=f"smbios:{UUID.lower()}", node="pve1", cores=4.0, memory_mb=4096, disk_gb=32
    )


def test_a_containers_configuration() -> None:
    found = config(
        GuestType.LXC,
        hostname="ct",
        cores=1,
        memory=512,
        rootfs="local-lvm:vm-101-disk-0,size=8G",
        mp0="local-lvm:vm-101-disk-1,mp=/data,size=1T",
        mp1="/mnt/host,mp=/host",
        net10="name=eth1,hwaddr=BC:24:11:00:00:02",
        net2="name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp",
    )
    assert found == GuestConfig(
        fingerprint="mac:bc:24:11:00:00:01", node="pve1", cores=1.0, memory_mb=512, disk_gb=1032, name="ct"
    )


@pytest.mark.parametrize(
    ("fields", "attribute", "value"),
    [
        ({}, "fingerprint", None),
        ({"smbios1": "manufacturer=x"}, "fingerprint", None),
        ({"smbios1": "uuid=00000000-0000-0000-0000-000000000000"}, "fingerprint", None),
        ({"smbios1": 5}, "fingerprint", None),
        ({}, "cores", 1.0),
        ({"cores": "many"}, "cores", None),
        ({"cores": 2**30, "sockets": 4}, "cores", None),
        ({"memory": "current=2048"}, "memory_mb", 2048),
        ({"memory": 2048}, "memory_mb", 2048),
        ({"memory": "lots"}, "memory_mb", None),
        ({"scsi0": "local:vm-1-disk-0"}, "disk_gb", None),
        ({"scsi0": "local:vm-1-disk-0,size=2252M"}, "disk_gb", 2),
        ({"scsi0": "local:vm-1-disk-0,size=100M"}, "disk_gb", 1),
    ],
)
def test_odd_configurations(fields: dict[str, object], attribute: str, value: object) -> None:
    assert getattr(config(GuestType.QEMU, **fields), attribute) == value


@given(
    data=JSON | st.dictionaries(st.sampled_from(CONFIG_FIELDS), JSON),
    guest_type=st.sampled_from(list(GuestType)),
)
def test_any_configuration_can_be_read(data: object, guest_type: GuestType) -> None:
    assert (read_config("pve1", guest_type, data) is None) == (not isinstance(data, dict))


CLUSTER = {"type": "cluster", "name": "c", "nodes": 2, "quorate": 1}
NODE1 = {"type": "node", "name": "pve1", "online": 1}
NODE2 = {"type": "node", "name": "pve2", "online": 0}
BOTH = frozenset({"pve1", "pve2"})
ONE = frozenset({"pve1"})


@pytest.mark.parametrize(
    ("data", "membership"),
    [
        pytest.param([CLUSTER, NODE1, NODE2], Membership(BOTH, ONE, quorate=True), id="one of two online"),
        pytest.param([{**CLUSTER, "quorate": 0}, NODE1, NODE2], Membership(BOTH, ONE, quorate=False), id="no quorum"),
        pytest.param([NODE1], Membership(ONE, ONE, quorate=True), id="standalone"),
        pytest.param([NODE1, NODE2], None, id="two nodes without a cluster"),
        pytest.param([CLUSTER, NODE1], None, id="fewer nodes than the cluster counts"),
        pytest.param([CLUSTER, NODE1, NODE1], None, id="a node twice"),
        pytest.param([CLUSTER], None, id="no nodes"),
        pytest.param([], None, id="empty"),
        pytest.param(None, None, id="null"),
        pytest.param([CLUSTER, NODE1, {"type": "node"}], None, id="a nameless node"),
        pytest.param([{**NODE1, "name": "pve\0"}], None, id="a node's name that cannot be stored"),
    ],
)
def test_membership(data: object, membership: Membership | None) -> None:
    if membership is None:
        with pytest.raises(Malformed):
            membership_of(data)
    else:
        assert membership_of(data) == membership


@pytest.mark.parametrize(
    ("data", "held"),
    [
        pytest.param({"/vms": {"VM.Audit": 1}}, True, id="held"),
        pytest.param({"/vms": {"VM.Audit": 0}}, False, id="held, but not below"),
        pytest.param({"/vms": {"Sys.Audit": 1}}, False, id="another privilege"),
        pytest.param({"/vms": {}}, False, id="none"),
        pytest.param({}, False, id="no path"),
        pytest.param([], False, id="an empty list, as Perl writes an empty hash"),
        pytest.param(None, False, id="null"),
        pytest.param({"/": {"VM.Audit": 1}}, True, id="held above"),
        pytest.param({"/": {"VM.Audit": 1}, "/vms": {}}, False, id="taken away below"),
        pytest.param({"/vm": {"VM.Audit": 1}}, False, id="a path that only looks like one above"),
    ],
)
def test_token_rights(data: object, held: bool) -> None:
    assert holds(data, "/vms", "VM.Audit") is held


@pytest.mark.parametrize(
    ("version", "warned"),
    [("9.0.0", True), ("9.0.7", True), ("9.0.7-1", True), ("9.0.8", False), ("9.0.70", False), ("8.4.1", False)],
)
def test_slow_versions_are_named(version: str, warned: bool) -> None:
    assert version_of({"version": version}) == version
    assert (version_problem(version) is not None) is warned


@pytest.mark.parametrize("data", [None, [], {}, {"version": 9}, {"version": "<b>"}])
def test_a_version_that_is_not_told_is_a_problem(data: object) -> None:
    assert version_of(data) is None
    assert version_problem(None) is not None
