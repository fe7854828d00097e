"""Creates the main site's guests on Proxmox simulators, in this process or through their control APIs."""

from collections.abc import Mapping

from lab.simulators.main_site.guests import GuestPlace
from lab.simulators.main_site.model import Order
from lab.simulators.proxmox.guests import GuestType
from lab.simulators.proxmox.verbs import ProxmoxVerbs


class ProxmoxGuests:
    """A `GuestHost` on Proxmox simulators. An order that names no cluster gets its guest on the first one."""

    def __init__(self, clusters: Mapping[str, ProxmoxVerbs]) -> None:
        if not clusters:
            raise ValueError("At least one Proxmox cluster is needed")
        self._clusters = dict(clusters)

    def create(self, order: Order) -> GuestPlace:
        name = order.cluster or next(iter(self._clusters))
        kind: GuestType = "lxc" if order.guest_type == "lxc" else "qemu"
        guest = self._cluster(name).create_guest(
            name=order.name, type=kind, cores=order.cpu, memory_mb=order.ram_mb, disk_gb=order.disk_gb
        )
        return GuestPlace(name, guest.node, guest.vmid)

    def set_power(self, order: Order, status: str) -> None:
        cluster = self._cluster_of(order)
        if order.vmid is not None and cluster.find_guest(order.vmid) is not None:
            cluster.set_status(order.vmid, status)

    def remove(self, order: Order) -> None:
        cluster = self._cluster_of(order)
        if order.vmid is not None and cluster.find_guest(order.vmid) is not None:
            cluster.remove_guest(order.vmid)

    def _cluster_of(self, order: Order) -> ProxmoxVerbs:
        return self._cluster(order.cluster or next(iter(self._clusters)))

    def _cluster(self, name: str) -> ProxmoxVerbs:
        if name not in self._clusters:
            raise ValueError(f"There is no cluster {name}")
        return self._clusters[name]
