"""Power commands against the Proxmox simulator over TLS: each command does what it says, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from domain.guests import GuestType
from domain.power.actions import Command, GuestNow
from domain.power.port import Lost, OwnTask, Rejected, Sent, TaskEnded, TaskState
from domain.source_protocols import Found, Unclear
from lab.simulators.proxmox.server import ProxmoxServer
from sources.config import ClusterConfig
from sources.proxmox.cluster import ClusterSource
from sources.proxmox.power import ClusterPower
from tests.support.waiting import wait_until

UUID = "8d3f1e64-0c5b-4e0c-9a77-3f4f5d2b1a00"
VM, CT = 100, 101


@pytest.fixture(scope="module")
def server() -> Iterator[ProxmoxServer]:
    with ProxmoxServer(unauthorized_delay_s=0.0) as running:
        running.add_guest(VM, node="pve1", uuid=UUID)
        running.add_guest(CT, node="pve2", type="lxc", mac="BC:24:11:00:00:01", status="stopped")
        yield running


@pytest.fixture
def pve(server: ProxmoxServer) -> Iterator[ProxmoxServer]:
    yield server
    server.clear_faults()
    server.restore_token()
    server.set_lock(VM, None)
    server.set_status(VM, "running")
    server.set_status(CT, "stopped")


@pytest.fixture
def power(pve: ProxmoxServer) -> Iterator[ClusterPower]:
    config = ClusterConfig(
        pve.name, tuple(pve.urls), pve.token_id, SecretStr(pve.token_secret), ca_file=Path(pve.ca_file)
    )
    made = ClusterPower(ClusterSource(config))
    yield made
    made.close()


def seen(power: ClusterPower, vmid: int) -> GuestNow:
    place = ("pve1", GuestType.QEMU) if vmid == VM else ("pve2", GuestType.LXC)
    found = power.look(*place, vmid)
    assert isinstance(found, Found), found
    return found.value


def sent(power: ClusterPower, vmid: int, command: Command, *, listed: bool = True) -> TaskState:
    """Send it, and wait for the end of its task. ``listed``: the simulator lists the task."""
    now = seen(power, vmid)
    guest_type = GuestType.QEMU if vmid == VM else GuestType.LXC
    before = power.own_tasks(now.node, vmid)
    reply = power.send(now.node, guest_type, vmid, command)
    assert isinstance(reply, Sent), reply
    after = power.own_tasks(now.node, vmid)
    assert not isinstance(before, Unclear)
    assert not isinstance(after, Unclear)
    if listed:
        assert set(after) - set(before) == {OwnTask(reply.upid, reply.upid.split(":")[5])}
    ended = wait_until(lambda: task if isinstance(task := power.task(reply.upid), TaskEnded) else None, "its end")
    assert ended is not None
    return ended


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (Command.SHUTDOWN, "stopped"),
        (Command.STOP, "stopped"),
        (Command.REBOOT, "running"),
        (Command.RESET, "running"),
    ],
)
def test_a_machine(power: ClusterPower, command: Command, status: str) -> None:
    assert sent(power, VM, command) == TaskEnded(ok=True, said="OK")
    assert seen(power, VM).status == status


def test_a_container(power: ClusterPower) -> None:
    for command, status in (
        (Command.START, "running"),
        (Command.REBOOT, "running"),
        (Command.SHUTDOWN, "stopped"),
        (Command.START, "running"),
        (Command.STOP, "stopped"),
    ):
        sent(power, CT, command)
        assert seen(power, CT).status == status


def test_a_container_that_is_as_wanted_already_is_an_error_at_once(power: ClusterPower) -> None:
    reply = power.send("pve2", GuestType.LXC, CT, Command.STOP)
    assert isinstance(reply, Rejected)
    assert not reply.final


def test_a_locked_machine(pve: ProxmoxServer, power: ClusterPower) -> None:
    pve.set_lock(VM, "backup")
    assert seen(power, VM).lock == "backup"
    task = sent(power, VM, Command.SHUTDOWN, listed=False)
    assert isinstance(task, TaskEnded)
    assert not task.ok
    assert seen(power, VM).status == "running"


def test_a_token_without_the_right(pve: ProxmoxServer, power: ClusterPower) -> None:
    pve.set_token_rights({"/": ["Sys.Audit"], "/vms": ["VM.Audit"]})
    reply = power.send("pve1", GuestType.QEMU, VM, Command.STOP)
    assert isinstance(reply, Rejected)
    assert reply.final
    assert "VM.PowerMgmt" in reply.why
    assert seen(power, VM).status == "running"


def test_an_answer_that_is_cut_off_is_lost_though_the_command_was_done(pve: ProxmoxServer, power: ClusterPower) -> None:
    before = power.own_tasks("pve1", VM)
    pve.truncate_answers(f"/nodes/pve1/qemu/{VM}/status/stop", times=1)
    assert isinstance(power.send("pve1", GuestType.QEMU, VM, Command.STOP), Lost)
    assert wait_until(lambda: seen(power, VM).status == "stopped", "the stop")
    after = power.own_tasks("pve1", VM)
    assert not isinstance(before, Unclear)
    assert not isinstance(after, Unclear)
    assert [task.kind for task in set(after) - set(before)] == ["qmstop"]


def test_without_quorum_nothing_is_seen(pve: ProxmoxServer, power: ClusterPower) -> None:
    pve.set_quorum(quorate=False)
    assert isinstance(power.look("pve1", GuestType.QEMU, VM), Unclear)
