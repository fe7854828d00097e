"""A cluster in memory whose lists are judged by the real reading: nodes that die, leave, or do not answer."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Engine, insert, text

from domain.guests import Guest, GuestType, PowerState
from domain.source_protocols import ClusterReading, Found, Gone, GuestConfig, Health, Lookup, Unclear
from panel.journal import rows
from panel.records.projection import new_row
from panel.schema import tables
from sources.proxmox.answers import Listed, Membership
from sources.proxmox.cluster import interpret


@dataclass(slots=True)
class ListedCluster:
    """``offline``: nodes that are dead, for long enough that the list has forgotten their guests' names and sizes.
    ``silent``: nodes that are online and whose configurations cannot be read. ``holds_back``: a list is not answered
    before it is set. ``unclear``: nothing is confirmed. ``asked``: (node, VMID) of each configuration that was asked
    for."""

    cluster: str = "main"
    nodes: set[str] = field(default_factory=lambda: {"pve1", "pve2", "pve3"})
    offline: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    guests: dict[int, Guest] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    holds_back: threading.Event | None = None
    whole: bool = True
    warnings: tuple[str, ...] = ()
    unclear: bool = False
    fingerprints: dict[int, str] = field(default_factory=dict)

    def add(self, vmid: int, node: str) -> None:
        self.guests[vmid] = Guest(
            self.cluster, vmid, GuestType.QEMU, node, "running", PowerState.RUNNING, f"g{vmid}", cores=2.0,
            memory_mb=2048, disk_gb=10,
        )  # fmt: skip

    def change(self, vmid: int, **values: Any) -> None:
        self.guests[vmid] = replace(self.guests[vmid], **values)

    def read(self) -> ClusterReading:
        if self.holds_back is not None:
            self.holds_back.wait()
        shown = tuple(self._forgotten(g) if g.node in self.offline else g for g in self.guests.values())
        nodes = frozenset(self.nodes)
        membership = Membership(nodes, nodes - self.offline, quorate=True)
        return interpret(self.cluster, membership, Listed(shown, frozenset()), whole=self.whole, warnings=self.warnings)

    @staticmethod
    def _forgotten(guest: Guest) -> Guest:
        return replace(
            guest, status="unknown", power=PowerState.UNKNOWN, name=None, cores=None, memory_mb=None, disk_gb=None
        )

    def config(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        del guest_type
        self.asked.append((node, vmid))
        guest = self.guests.get(vmid)
        if guest is None or guest.node in self.offline | self.silent:
            return Unclear("the node cannot be reached (596)")
        return Found(
            GuestConfig(self.fingerprints.get(vmid, f"smbios:{vmid}"), guest.node, 2.0, 2048, 10, name=guest.name)
        )

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        if self.unclear:
            return Unclear("busy")
        return self.config(node, guest_type, vmid) if vmid in self.guests else Gone("no node has it")

    def health(self) -> Health:
        return Health(ok=True, detail="in memory")


def make_record(engine: Engine, vps_id: int, vmid: int, node: str, cluster: str = "main") -> None:
    """A live record that was pushed with this address; nobody has looked at the guest yet."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (id, username) VALUES (5, 'u') ON CONFLICT DO NOTHING"))
        values = {
            "user_id": 5, "name": f"g{vmid}", "status": "running", "cpu": 2, "ram": 2048, "disk": 10, "os": "debian-12",
            "hypervisor": "proxmox", "vmid": vmid, "cluster": cluster, "node": node, "guest_type": "qemu",
        }  # fmt: skip
        queue = {"vps_id": vps_id, "last_seq": 1, "applied_seq": 1, "queue_state": "live"}
        connection.execute(insert(tables.vps_queues).values(**queue))
        rows.store_new(connection, new_row(vps_id, values, rows.database_now(connection)))
