"""A world: customers of the main site, the machines they bought, and the events that happen to these. It acts only
through the simulators.

Names are unique, and a guest has its order's name. So the audit knows without the panel which record, order and guest
belong together. An order that ended and a guest that was destroyed never come back. The time of the end is noted
*before* the simulator is told, so the panel cannot act on an end that is not noted yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lab.simulators.main_site.verbs import MainSiteVerbs
from lab.simulators.proxmox.guests import Guest
from lab.simulators.proxmox.verbs import ProxmoxVerbs

CUSTOMERS = 3
FIRST_STRAY_VMID = 900_000


@dataclass(frozen=True, slots=True)
class Owner:
    """A customer, with the main site's id and the panel's id. The two differ."""

    main_site_id: int
    panel_id: int


@dataclass(slots=True)
class Sale:
    """One machine that was sold. ``owners``: the panel's ids of all its owners so far, the present one last.

    ``listed``: whether the main site still has the order. ``ended_at``: when the order ended. ``gone_at``: when the
    guest was destroyed.
    """

    order_id: int
    name: str
    owners: list[int]
    cluster: str
    vmid: int
    node: str
    fingerprint: str
    cpu: int
    status: str = "running"
    listed: bool = True
    ended_at: datetime | None = None
    gone_at: datetime | None = None

    @property
    def going(self) -> bool:
        return self.ended_at is None

    @property
    def there(self) -> bool:
        return self.gone_at is None


@dataclass(slots=True)
class World:
    """Customers and sales, and the events of a schedule. Only one thread acts; others may read."""

    number: int
    site: MainSiteVerbs
    clusters: Mapping[str, ProxmoxVerbs]
    owners: list[Owner] = field(default_factory=list)
    sales: list[Sale] = field(default_factory=list)
    strays: list[Guest] = field(default_factory=list)
    stray_cluster: str = ""
    _names: int = 0

    def add_customers(self, first_panel_id: int) -> None:
        """Add customers. The main site can name them to the panel once the panel has imported them."""
        for n in range(CUSTOMERS):
            panel_id = first_panel_id + n
            login = f"chaos-{panel_id}"
            user = self.site.add_user(username=login, email=f"{login}@example.test", panel_user_id=panel_id)
            self.owners.append(Owner(user.id, panel_id))

    def play(self, kind: str, subject: int) -> None:
        """Do the event if it is possible now."""
        if kind == "buy":
            self.buy(subject)
        elif kind in ("terse", "explicit"):
            self.site.set_extended(extended=kind == "explicit")
        elif kind == "stray":
            self._stray()
        elif self.sales and (sale := self.sales[subject % len(self.sales)]).listed:
            _VERBS[kind](self, sale)

    def buy(self, subject: int) -> Sale:
        """Sell one more machine, running."""
        self._names += 1
        owner = self.owners[subject % len(self.owners)]
        cluster = list(self.clusters)[subject % len(self.clusters)]
        order = self.site.place_order(
            user_id=owner.main_site_id,
            name=f"w{self.number}-{self._names}",
            cpu=1 + subject % 4,
            cluster=cluster,
            guest_type="lxc" if subject % 5 == 0 else "qemu",
        )
        guest = self._named(cluster, order.vmid, order.name)
        sale = Sale(
            order.id, order.name, [owner.panel_id], cluster, guest.vmid, guest.node, fingerprint_of(guest), order.cpu
        )
        self.sales.append(sale)
        self.site.set_status(order.id, "running")
        return sale

    def _named(self, cluster: str, vmid: int | None, name: str) -> Guest:
        guest = None if vmid is None else self.clusters[cluster].find_guest(vmid)
        if guest is None or guest.name != name:
            raise LookupError(f"the main site made no guest for {name}")
        return guest

    def _stray(self) -> None:
        self.stray_cluster = self.stray_cluster or next(iter(self.clusters))
        vmid = FIRST_STRAY_VMID + 1000 * self.number + len(self.strays)
        name = f"by-hand-{vmid}"
        self.strays.append(self.clusters[self.stray_cluster].add_guest(vmid, name=name, cores=64))

    def switch(self, sale: Sale) -> None:
        if sale.going and sale.there and sale.status != "suspended":
            sale.status = "stopped" if sale.status == "running" else "running"
            self.site.set_status(sale.order_id, sale.status)

    def switch_behind(self, sale: Sale) -> None:
        if sale.there and sale.status != "suspended":
            cluster = self.clusters[sale.cluster]
            guest = self._named(sale.cluster, sale.vmid, sale.name)
            cluster.set_status(sale.vmid, "stopped" if guest.status == "running" else "running")

    def suspend(self, sale: Sale) -> None:
        if sale.going:
            sale.status = "running" if sale.status == "suspended" else "suspended"
            self.site.set_status(sale.order_id, sale.status)

    def cancel(self, sale: Sale, *, keep: bool = False) -> None:
        if sale.going:
            was_there, sale.ended_at = sale.there, _now()
            if not keep:
                sale.gone_at = sale.gone_at or sale.ended_at
            # If the guest was destroyed before, its VMID may belong to another machine by now.
            self.site.cancel_order(sale.order_id, remove_guest=not keep and was_there)

    def cancel_keep(self, sale: Sale) -> None:
        self.cancel(sale, keep=True)

    def destroy(self, sale: Sale) -> None:
        if sale.there:
            sale.gone_at = _now()
            self.clusters[sale.cluster].remove_guest(sale.vmid)

    def vanish(self, sale: Sale) -> None:
        sale.listed = False
        sale.ended_at = sale.ended_at or _now()
        self.site.remove_order(sale.order_id)
        self.destroy(sale)

    def migrate(self, sale: Sale) -> None:
        if sale.there:
            sale.node = "pve2" if sale.node != "pve2" else "pve3"
            self.clusters[sale.cluster].migrate(sale.vmid, sale.node)

    def reuse(self, sale: Sale) -> None:
        if sale.going and sale.there:
            self.cancel(sale)
            # The main site takes the lowest free VMID of the cluster, which is most likely the one that was just freed.
            index = next(n for n in range(10) if list(self.clusters)[n % len(self.clusters)] == sale.cluster)
            self.buy(index)

    def transfer(self, sale: Sale) -> None:
        if sale.going:
            at = next(n for n, owner in enumerate(self.owners) if owner.panel_id == sale.owners[-1])
            taker = self.owners[(at + 1) % len(self.owners)]
            sale.owners.append(taker.panel_id)
            self.site.change_order(sale.order_id, user_id=taker.main_site_id)

    def resize(self, sale: Sale) -> None:
        if sale.going and sale.there:
            sale.cpu += 1
            self.site.change_order(sale.order_id, cpu=sale.cpu)
            self.clusters[sale.cluster].change_guest(sale.vmid, cores=sale.cpu)

    def repeat(self, sale: Sale) -> None:
        if sale.going:
            self.site.send_call(sale.order_id, "create")


def fingerprint_of(guest: Guest) -> str:
    """The panel's fingerprint of a guest."""
    return f"smbios:{guest.uuid}" if guest.uuid else f"mac:{guest.mac.lower()}"


def _now() -> datetime:
    return datetime.now(UTC)


_VERBS: dict[str, Callable[[World, Sale], None]] = {
    "power": World.switch,
    "power-behind": World.switch_behind,
    "suspend": World.suspend,
    "cancel": World.cancel,
    "cancel-keep": World.cancel_keep,
    "destroy": World.destroy,
    "vanish": World.vanish,
    "migrate": World.migrate,
    "reuse": World.reuse,
    "transfer": World.transfer,
    "resize": World.resize,
    "repeat": World.repeat,
}
