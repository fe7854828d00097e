"""The guests of a fake cluster and their nodes. fakepve holds them.

It needs no lock, because everything runs on the event loop that serves the cluster.
"""

import heapq
import time
import uuid as uuids
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeGuard

from fakepve import FakePve

from lab.simulators.proxmox.guests import Guest, GuestType, config_of, power_of, random_mac
from lab.simulators.proxmox.measurements import Stay, points

FIRST_VMID = 100


class FakeGuest(Protocol):
    """The attributes of fakepve's guests that are used here."""

    vmid: int
    node: str
    status: str
    config: dict[str, Any]
    lock: str | None
    started_at: float | None

    @property
    def name(self) -> str: ...

    @property
    def guest(self) -> str: ...

    @property
    def template(self) -> bool: ...


class FakeMachine(FakeGuest, Protocol):
    """A virtual machine also has QEMU's own state, and a name outside of its configuration."""

    name: str
    qmpstatus: str


def is_machine(fake: FakeGuest) -> TypeGuard[FakeMachine]:
    """Whether it is a virtual machine, not a container."""
    return fake.guest.startswith("qemu/")


class GuestFleet:
    """The verbs about guests. `monotonic` is the clock that ends old reports."""

    def __init__(self, pve: FakePve, nodes: Sequence[str], monotonic: Callable[[], float]) -> None:
        self.pve = pve
        pve.nodes = {node: {"online": True} for node in nodes}
        self._now = monotonic
        self._guests: dict[int, FakeGuest] = {}
        self._free_vmids: list[int] = []
        self._next_vmid = FIRST_VMID
        self._former: dict[int, Guest] = {}
        self._former_until: dict[int, float] = {}
        self._offline_since: dict[str, float] = {}
        self._silent: set[int] = set()
        self._stays: dict[int, list[Stay]] = {}

    def create_guest(
        self,
        *,
        name: str,
        type: GuestType = "qemu",  # noqa: A002 - the API's own word
        node: str | None = None,
        status: str = "stopped",
        cores: int = 2,
        memory_mb: int = 4096,
        disk_gb: int = 50,
    ) -> Guest:
        online = [known for known in self.pve.nodes if known not in self._offline_since]
        if node is None and not online:
            raise ValueError("No node is online")
        return self.add_guest(
            self._lowest_free_vmid(),
            node=node or online[0],
            type=type,
            name=name,
            status=status,
            cores=cores,
            memory_mb=memory_mb,
            disk_gb=disk_gb,
        )

    def add_guest(
        self,
        vmid: int,
        *,
        node: str = "pve1",
        type: GuestType = "qemu",  # noqa: A002 - the API's own word
        name: str | None = None,
        status: str = "running",
        uuid: str | None = None,
        mac: str | None = None,
        cores: int = 2,
        memory_mb: int = 4096,
        disk_gb: int = 50,
        tags: str = "",
        lock: str | None = None,
        template: bool = False,
        ip_address: str = "",
        reported_after_s: float = 0.0,
    ) -> Guest:
        if vmid in self._guests:
            raise ValueError(f"VM {vmid} already exists")
        self._require_node(node)
        guest = Guest(
            vmid=vmid,
            node=node,
            type=type,
            name=name or f"guest-{vmid}",
            status="running",
            uuid=(uuid or str(uuids.uuid4())) if type == "qemu" else None,
            mac=random_mac() if mac is None else mac,
            cores=cores,
            memory_mb=memory_mb,
            disk_gb=disk_gb,
            tags=tags.lower(),
            lock=lock,
            template=template,
            ip_address=ip_address,
        )
        add = self.pve.add_ct if type == "lxc" else self.pve.add_vm
        self._guests[vmid] = add(
            vmid,
            guest.name,
            node=node,
            status=power_of(status),
            config=config_of(guest),
            template=template,
            lock=lock,
        )
        self._stays.setdefault(vmid, []).append(Stay(guest, time.time()))
        if reported_after_s and vmid in self._former:
            self._former_until[vmid] = self._now() + reported_after_s
        return self.set_status(vmid, status)

    def change_guest(
        self,
        vmid: int,
        *,
        name: str | None = None,
        uuid: str | None = None,
        mac: str | None = None,
        cores: int | None = None,
        memory_mb: int | None = None,
        disk_gb: int | None = None,
        tags: str | None = None,
    ) -> Guest:
        fake = self._fake(vmid)
        changes: dict[str, Any] = {
            "name": name,
            "uuid": uuid,
            "mac": mac,
            "cores": cores,
            "memory_mb": memory_mb,
            "disk_gb": disk_gb,
            "tags": tags,
        }
        given = {field: value for field, value in changes.items() if value is not None}
        changed = replace(self._describe(fake), **given)
        if tags == "":
            fake.config.pop("tags", None)
        fake.config.update(config_of(changed))
        if is_machine(fake):
            fake.name = changed.name
        return self._describe(fake)

    def find_guest(self, vmid: int) -> Guest | None:
        return self._describe(self._guests[vmid]) if vmid in self._guests else None

    def list_guests(self) -> list[Guest]:
        return [self._describe(self._guests[vmid]) for vmid in sorted(self._guests)]

    def set_status(self, vmid: int, status: str) -> Guest:
        fake = self._fake(vmid)
        if status == "unknown":
            self._silent.add(vmid)
            return self._describe(fake)
        self._silent.discard(vmid)
        ran, fake.status = fake.started_at is not None, power_of(status)
        if not ran or fake.status != "running":
            fake.started_at = time.time() if fake.status == "running" else None
        if is_machine(fake):
            fake.qmpstatus = status
        elif status not in ("running", "stopped"):
            raise ValueError(f"A container is running or stopped, never {status}")
        return self._describe(fake)

    def set_uptime(self, vmid: int, seconds: float) -> None:
        self._fake(vmid).started_at = time.time() - seconds

    def set_lock(self, vmid: int, lock: str | None) -> Guest:
        fake = self._fake(vmid)
        fake.lock = lock
        if lock is None:
            fake.config.pop("lock", None)
        else:
            fake.config["lock"] = lock
        return self._describe(fake)

    def remove_guest(self, vmid: int) -> None:
        fake = self._fake(vmid)
        self._former[vmid] = self._describe(fake)
        self._former_until.pop(vmid, None)
        self._silent.discard(vmid)
        self._stays[vmid][-1].until = time.time()
        del self._guests[vmid]
        heapq.heappush(self._free_vmids, vmid)
        (self.pve.vms if is_machine(fake) else self.pve.cts).remove(fake)

    def migrate(self, vmid: int, node: str) -> Guest:
        self._require_node(node)
        fake = self._fake(vmid)
        fake.node = node
        return self._describe(fake)

    def set_measured(self, vmid: int, since_s: float, until_s: float | None = None) -> None:
        stays = self._stays[vmid]
        stays[-1].since = time.time() - since_s
        if until_s is not None:
            stays[-1].until = time.time() - until_s

    def measurements(self, vmid: int, timeframe: str) -> list[dict[str, Any]] | None:
        """What was measured under this VMID; None if no guest ever had it."""
        fake, stays = self._guests.get(vmid), self._stays.get(vmid)
        running = fake is not None and fake.status == "running"
        return None if stays is None else points(stays, running=running, timeframe=timeframe, now=time.time())

    def qemu_status(self, vmid: int) -> str | None:
        """QEMU's own state of a virtual machine; None for a container."""
        fake = self._guests.get(vmid)
        return fake.qmpstatus if fake is not None and is_machine(fake) else None

    def _require_node(self, node: str) -> None:
        if node not in self.pve.nodes:
            raise ValueError(f"There is no node {node}")

    def _lowest_free_vmid(self) -> int:
        while self._free_vmids and self._free_vmids[0] in self._guests:
            heapq.heappop(self._free_vmids)
        while self._next_vmid in self._guests:
            self._next_vmid += 1
        return min([self._next_vmid, *self._free_vmids[:1]])

    def _fake(self, vmid: int) -> FakeGuest:
        if vmid not in self._guests:
            raise KeyError(f"There is no guest {vmid}")
        return self._guests[vmid]

    @staticmethod
    def _describe(fake: FakeGuest) -> Guest:
        config = fake.config
        is_container = not is_machine(fake)
        net = dict(part.split("=", 1) for part in config["net0"].split(",")) if "net0" in config else {"hwaddr": ""}
        ip = dict([config["ipconfig0"].split("=", 1)]) if "ipconfig0" in config else {}
        volume = config["rootfs" if is_container else "scsi0"]
        return Guest(
            vmid=fake.vmid,
            node=fake.node,
            type="lxc" if is_container else "qemu",
            name=fake.name,
            status=fake.qmpstatus if is_machine(fake) else fake.status,
            uuid=None if is_container else config["smbios1"].removeprefix("uuid="),
            mac=net["hwaddr" if is_container else "virtio"],
            cores=int(config["cores"]),
            memory_mb=int(config["memory"]),
            disk_gb=int(volume.rpartition("size=")[2].rstrip("G")),
            tags=config.get("tags", ""),
            lock=fake.lock,
            template=bool(fake.template),
            ip_address=(net if is_container else ip).get("ip", "").partition("/")[0],
        )
