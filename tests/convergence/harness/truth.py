"""What is true: the sales of the main site and the machines on Proxmox, and what happens to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain.guests import GuestKey, GuestType, PowerState
from tests.convergence.harness.story import CUSTOMERS, Story

CLUSTERS = ("main", "second")
NODES = ("pve1", "pve2")
USERS = {str(n + 1): n + 5 for n in range(CUSTOMERS)}
"""The panel's user id of each of the main site's."""


@dataclass(slots=True)
class Machine:
    """One guest. ``away``: it is being restored, and Proxmox truly does not know it meanwhile. ``hidden``: it is on
    no Proxmox. ``left``: where it was before it moved, and ``leaving`` for how many rounds it is seen there still."""

    key: GuestKey
    node: str
    fingerprint: str
    name: str
    cores: int
    power: PowerState = PowerState.RUNNING
    there: bool = True
    away: bool = False
    lock: str | None = None
    locked_at: datetime | None = None
    unseen: int = 0  # trusted looks at its cluster in a row that did not show it
    hidden: bool = False
    left: GuestKey | None = None
    leaving: int = 0
    reinstalls: int = 0
    forbidden: bool = False  # its configuration may not be read
    template: bool = False
    started_at: datetime | None = None  # its process, if it runs; None: long ago

    @property
    def keys(self) -> tuple[GuestKey, ...]:
        """Where it is to be seen."""
        if not self.there or self.away or self.hidden:
            return ()
        return (self.key, self.left) if self.left is not None and self.leaving else (self.key,)

    @property
    def guest_type(self) -> GuestType:
        return GuestType.QEMU


RESIZE = 50
"""Cores that a larger plan has more: two plans never become one."""


@dataclass(slots=True)
class Sale:
    """One order. ``listed``: the main site still knows it. ``mistake``: what it wrongly says of it, in every answer.
    ``clone``: a copy of its guest, uuid and all. ``changed_at``: when the main site last had something new to say."""

    order_id: str
    owner: str
    name: str
    cpu: int
    machine: Machine
    created_at: datetime
    says_all: bool  # whether its calls name order and guest
    state: str = "active"  # pending | active | suspended | cancelled
    listed: bool = True
    panel_id: int | None = None
    mistake: dict[str, str] = field(default_factory=dict)
    mistaken: int = 0  # rounds in a row: what lasts is no mistake, and nobody could tell
    clone: Machine | None = None
    placed: bool = True  # its order names a guest, be it there or not
    twin: bool = False
    late: bool = False  # over before its create arrived: nobody ever saw which machine it was
    muddled: bool = False  # the main site says of it what is not so, and never takes it back
    unmade: bool = False  # destroyed before anybody saw it
    misnamed: bool = False  # its call named another's guest, and its order names none: nobody can say where it is
    face: tuple[object, ...] = ()
    changed_at: datetime | None = None

    @property
    def going(self) -> bool:
        return self.listed and self.state != "cancelled"

    @property
    def ip6_address(self) -> str | None:
        """A larger machine gets an address of its own; no call says so."""
        return f"2001:db8::{self.cpu:x}" if self.cpu > RESIZE else None

    @property
    def status(self) -> str:
        """The main site's own word."""
        return {"active": self.machine.power.value, "pending": "creating"}.get(self.state, self.state)

    @property
    def on_proxmox(self) -> bool:
        """Whether its order names a guest."""
        return not self.machine.hidden and self.placed


@dataclass(frozen=True, slots=True)
class Call:
    """One sync call. ``sale`` tells the create's answer where to go, if it is ``answered``."""

    action: str
    sale: Sale
    payload: dict[str, Any]
    answered: bool = True


@dataclass(slots=True)
class Truth:
    """All sales and machines. ``calls``: what the main site calls the panel for because of it."""

    story: Story
    now: datetime
    sales: list[Sale] = field(default_factory=list)
    strays: list[Machine] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    machines_made: int = 0

    @property
    def machines(self) -> list[Machine]:
        clones = (s.clone for s in self.sales if s.clone is not None and s.machine.there)
        every = {id(m): m for m in (*(s.machine for s in self.sales), *self.strays, *clones)}  # two sales may have one
        return [m for m in every.values() if m.there and not m.hidden]

    @property
    def ambiguous(self) -> bool:
        """Whether held cases are to be expected: nothing that is shown could tell what is what."""
        unproven = any(not s.listed and (s.machine.hidden or s.state == "pending" or s.late) for s in self.sales)
        orderless = bool(self.strays) or any(not s.listed and s.machine.there for s in self.sales)
        twins = any(s.twin and (orderless or s.panel_id is None or not self.story.tells_ids) for s in self.sales)
        clones = any(s.clone is not None for s in self.sales)
        muddled = any(s.muddled or s.machine.forbidden for s in self.sales)
        return self.story.names == "equal" or clones or unproven or twins or muddled

    def sale(self, subject: int) -> Sale:
        return self.sales[subject % len(self.story.sales)]

    def sell(self, customer: int, kind: str = "linked", *, key: GuestKey | None = None) -> Sale:
        """One more sale and its machine. Every third has the VMID of the one before, in the other cluster."""
        self.machines_made += 1
        n = self.machines_made
        names = self.story.names
        name, cpu = f"web{n}" if names == "own" else "web", 2 if names == "equal" else n
        at = key or (GuestKey(CLUSTERS[1], 99 + n) if n % 3 == 0 else GuestKey(CLUSTERS[0], 100 + n))
        machine = Machine(
            at, NODES[n % 2], f"smbios:{n}", name, cpu, there=kind != "pending", hidden=kind == "vmware",
            started_at=self.now,
        )  # fmt: skip
        sale = Sale(f"o{n}", str(1 + customer % CUSTOMERS), name, cpu, machine, self.now, kind != "loose")
        if kind == "pending":
            sale.state, sale.placed = "pending", n % 2 == 0
        self.sales.append(sale)
        return sale

    def buyer_of(self, sale: Sale) -> Sale | None:
        """The going sale that has the machine of one that goes on no more."""
        if sale.going:
            return None
        return next((s for s in self.sales if s is not sale and s.going and s.machine is sale.machine), None)

    def free_key(self, cluster: str, vmid: int) -> GuestKey:
        """That VMID if nobody has or had it there, else one of its own."""
        self.machines_made += 1
        key = GuestKey(cluster, vmid)
        machines = [s.machine for s in self.sales]
        return GuestKey(cluster, 800 + self.machines_made) if any(key in (m.key, m.left) for m in machines) else key

    def call(self, action: str, sale: Sale, *, answered: bool = True, **payload: Any) -> None:
        """What the main site would say now; it can only speak of records whose id it was told."""
        if action == "create":
            payload |= {
                "user_id": USERS[sale.owner], "name": sale.name, "status": sale.status, "cpu": sale.cpu, "ram": 2048,
                "disk": 20, "os": "Debian", "hypervisor": "vmware" if sale.machine.hidden else "proxmox",
            }  # fmt: skip
            if sale.says_all:
                payload |= {"order_id": sale.order_id}
                payload |= place(sale) if sale.on_proxmox else {}
        self.calls.append(Call(action, sale, payload, answered))

    def stamp(self) -> None:
        """The main site notes when it last had something new to say of an order."""
        for sale in self.sales:
            face = (sale.status, sale.owner, sale.name, sale.cpu, sale.machine.key, sale.machine.node, sale.panel_id)
            shown = (*face, *sale.mistake.items())
            if shown != sale.face:
                sale.face, sale.changed_at = shown, self.now

    def end_round(self) -> None:
        """The end of a round: what was only for a moment is over."""
        for sale in self.sales:
            machine = sale.machine
            sale.mistaken = sale.mistaken + 1 if sale.mistake else 0
            sale.mistake.clear()
            machine.away = False
            machine.leaving = max(0, machine.leaving - 1)
            if machine.lock == "backup":
                machine.lock = machine.locked_at = None
            if sale.clone is not None and not machine.there:
                sale.clone = None


def place(sale: Sale) -> dict[str, Any]:
    """Where a call says that a sale's guest is."""
    machine = sale.machine
    return {
        "cluster": machine.key.cluster, "vmid": machine.key.vmid, "node": machine.node,
        "guest_type": machine.guest_type.value,
    }  # fmt: skip
