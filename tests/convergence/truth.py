"""What is true: the sales of the main site and the machines on Proxmox, and what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconcile.state import GuestKey, GuestType, PowerState
from tests.convergence.story import CUSTOMERS, Happening, Story

CLUSTERS = ("main", "second")
NODES = ("pve1", "pve2")
USERS = {str(n + 1): n + 5 for n in range(CUSTOMERS)}
"""The panel's user id of each of the main site's."""


@dataclass(slots=True)
class Machine:
    """One guest. ``away``: it is being restored, and Proxmox truly does not know it meanwhile."""

    key: GuestKey
    node: str
    fingerprint: str
    name: str
    cores: int
    power: PowerState = PowerState.RUNNING
    there: bool = True
    away: bool = False
    lock: str | None = None
    unseen: int = 0  # trusted looks at its cluster in a row that did not show it

    @property
    def guest_type(self) -> GuestType:
        return GuestType.QEMU


@dataclass(slots=True)
class Sale:
    """One order. ``listed``: the main site still knows it. ``mistake``: what it wrongly says of it, in every answer."""

    order_id: str
    owner: str
    name: str
    cpu: int
    machine: Machine
    created_at: datetime
    says_all: bool  # whether its calls name order and guest
    state: str = "active"  # active | suspended | cancelled
    listed: bool = True
    panel_id: int | None = None
    mistake: dict[str, str] = field(default_factory=dict)
    mistaken: int = 0  # rounds in a row: what lasts is no mistake, and nobody could tell

    @property
    def going(self) -> bool:
        return self.listed and self.state != "cancelled"

    @property
    def status(self) -> str:
        """The main site's own word."""
        return self.machine.power.value if self.state == "active" else self.state


@dataclass(frozen=True, slots=True)
class Call:
    """One sync call. ``sale`` tells the create's answer where to go."""

    action: str
    sale: Sale
    payload: dict[str, Any]


@dataclass(slots=True)
class Truth:
    """All sales and machines. ``calls``: what the main site calls the panel for because of it."""

    story: Story
    now: datetime
    sales: list[Sale] = field(default_factory=list)
    strays: list[Machine] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    made: int = 0

    @property
    def machines(self) -> list[Machine]:
        return [m for m in (*(s.machine for s in self.sales), *self.strays) if m.there]

    def sale(self, subject: int) -> Sale:
        return self.sales[subject % len(self.story.sales)]

    def sell(self, customer: int, *, says_all: bool, key: GuestKey | None = None) -> Sale:
        """One more sale and its machine."""
        self.made += 1
        n = self.made
        name, cpu = ("web", 2) if self.story.same_names else (f"web{n}", 1 + n % 4)
        at = key or GuestKey(CLUSTERS[n % 5 == 0], 100 + n)
        machine = Machine(at, NODES[n % 2], f"smbios:{n}", name, cpu)
        sale = Sale(f"o{n}", str(1 + customer % CUSTOMERS), name, cpu, machine, self.now, says_all)
        self.sales.append(sale)
        return sale

    def call(self, action: str, sale: Sale, **payload: Any) -> None:
        """What the main site would say now; it can only speak of records whose id it was told."""
        if action == "create":
            payload |= {
                "user_id": USERS[sale.owner], "name": sale.name, "status": sale.status, "cpu": sale.cpu, "ram": 2048,
                "disk": 20, "os": "Debian", "hypervisor": "proxmox",
            }  # fmt: skip
            if sale.says_all:
                key = sale.machine.key
                payload |= {"order_id": sale.order_id, "cluster": key.cluster, "vmid": key.vmid}
                payload |= {"node": sale.machine.node, "guest_type": sale.machine.guest_type.value}
        self.calls.append(Call(action, sale, payload))

    def happen(self, happening: Happening) -> None:
        """Let it happen, if it can."""
        if (event := _EVENTS.get(happening.kind)) is not None:
            event(self, self.sale(happening.subject))

    def settle_down(self) -> None:
        """The end of a round: what was only for a moment is over."""
        for sale in self.sales:
            sale.mistaken = sale.mistaken + 1 if sale.mistake else 0
            sale.mistake.clear()
            sale.machine.away = False
            sale.machine.lock = None


def _buy(truth: Truth, sale: Sale) -> None:
    truth.call("create", truth.sell(int(sale.owner) - 1, says_all=sale.says_all))


def _power(truth: Truth, sale: Sale) -> None:
    machine = sale.machine
    if machine.there and not machine.away and sale.state != "cancelled":
        machine.power = PowerState.STOPPED if machine.power is PowerState.RUNNING else PowerState.RUNNING
        if sale.state == "active":
            truth.call("update", sale, status=machine.power.value)


def _suspend(truth: Truth, sale: Sale) -> None:
    if sale.going:
        sale.state = "active" if sale.state == "suspended" else "suspended"
        truth.call("update", sale, status=sale.status)


def _cancel(truth: Truth, sale: Sale) -> None:
    if sale.going:
        sale.state, sale.machine.there = "cancelled", False
        truth.call("delete", sale)


def _cancel_keep(_: Truth, sale: Sale) -> None:
    sale.state = "cancelled" if sale.going else sale.state


def _destroy(_: Truth, sale: Sale) -> None:
    sale.machine.there = False


def _vanish(_: Truth, sale: Sale) -> None:
    sale.listed = False


def _vanish_both(_: Truth, sale: Sale) -> None:
    sale.listed = sale.machine.there = False


def _migrate(_: Truth, sale: Sale) -> None:
    sale.machine.node = NODES[sale.machine.node == NODES[0]]


def _reuse(truth: Truth, sale: Sale) -> None:
    if sale.going and sale.machine.there:
        _cancel(truth, sale)
        truth.call("create", truth.sell(int(sale.owner), says_all=sale.says_all, key=sale.machine.key))


def _transfer(_: Truth, sale: Sale) -> None:
    sale.owner = str(1 + int(sale.owner) % CUSTOMERS)


def _resize(truth: Truth, sale: Sale) -> None:
    sale.cpu += 1
    sale.machine.cores = sale.cpu
    if sale.going:
        truth.call("update", sale, cpu=sale.cpu)


def _stray(truth: Truth, _: Sale) -> None:
    truth.made += 1
    key = GuestKey(CLUSTERS[0], 500 + truth.made)
    truth.strays.append(Machine(key, NODES[0], f"smbios:stray{truth.made}", "by-hand", 64))


def _backup(_: Truth, sale: Sale) -> None:
    sale.machine.lock = "backup"


def _blink(_: Truth, sale: Sale) -> None:
    if sale.going and sale.machine.there and sale.mistaken < 2 and sale.machine.unseen < 2:
        sale.mistake["status"] = "cancelled"
        sale.machine.away = True


def _blink_owner(_: Truth, sale: Sale) -> None:
    if sale.mistaken < 1:
        sale.mistake["owner"] = str(1 + int(sale.owner) % CUSTOMERS)


_EVENTS: dict[str, Callable[[Truth, Sale], None]] = {
    "buy": _buy, "power": _power, "suspend": _suspend, "cancel": _cancel, "cancel-keep": _cancel_keep,
    "destroy": _destroy, "vanish": _vanish, "vanish-both": _vanish_both, "migrate": _migrate, "reuse": _reuse,
    "transfer": _transfer, "resize": _resize, "stray": _stray, "backup": _backup, "blink": _blink,
    "blink-owner": _blink_owner,
}  # fmt: skip
