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
    face: tuple[object, ...] = ()
    changed_at: datetime | None = None

    @property
    def going(self) -> bool:
        return self.listed and self.state != "cancelled"

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
    made: int = 0

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
        self.made += 1
        n = self.made
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
        self.made += 1
        key = GuestKey(cluster, vmid)
        machines = [s.machine for s in self.sales]
        return GuestKey(cluster, 800 + self.made) if any(key in (m.key, m.left) for m in machines) else key

    def call(self, action: str, sale: Sale, *, answered: bool = True, **payload: Any) -> None:
        """What the main site would say now; it can only speak of records whose id it was told."""
        if action == "create":
            payload |= {
                "user_id": USERS[sale.owner], "name": sale.name, "status": sale.status, "cpu": sale.cpu, "ram": 2048,
                "disk": 20, "os": "Debian", "hypervisor": "vmware" if sale.machine.hidden else "proxmox",
            }  # fmt: skip
            if sale.says_all:
                payload |= {"order_id": sale.order_id}
                payload |= _place(sale) if sale.on_proxmox else {}
        self.calls.append(Call(action, sale, payload, answered))

    def stamp(self) -> None:
        """The main site notes when it last had something new to say of an order."""
        for sale in self.sales:
            face = (sale.status, sale.owner, sale.name, sale.cpu, sale.machine.key, sale.machine.node, sale.panel_id)
            said = (*face, *sale.mistake.items())
            if said != sale.face:
                sale.face, sale.changed_at = said, self.now

    def happen(self, happening: Happening) -> None:
        """Let it happen, if it can."""
        if (event := _EVENTS.get(happening.kind)) is not None:
            event(self, self.sale(happening.subject))

    def settle_down(self) -> None:
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


def _place(sale: Sale) -> dict[str, Any]:
    machine = sale.machine
    return {
        "cluster": machine.key.cluster, "vmid": machine.key.vmid, "node": machine.node,
        "guest_type": machine.guest_type.value,
    }  # fmt: skip


def _buy(truth: Truth, sale: Sale) -> None:
    truth.call("create", truth.sell(int(sale.owner) - 1, "linked" if sale.says_all else "loose"))


def _twin(truth: Truth, sale: Sale) -> None:
    sold = truth.sell(int(sale.owner) - 1, "loose")
    sold.twin = True
    truth.call("create", sold, answered=False)
    truth.call("create", sold)


def _provision(truth: Truth, sale: Sale) -> None:
    if sale.state == "pending":
        sale.state, sale.placed, sale.machine.there, sale.machine.started_at = "active", True, True, truth.now
        truth.call("update", sale, status=sale.status, **(_place(sale) if sale.says_all else {}))


def _power(truth: Truth, sale: Sale) -> None:
    machine = sale.machine
    if machine.there and not machine.away and not machine.template and sale.state != "cancelled":
        machine.power = PowerState.STOPPED if machine.power is PowerState.RUNNING else PowerState.RUNNING
        machine.started_at = truth.now
        if sale.state == "active":
            truth.call("update", sale, status=machine.power.value)


def _suspend(truth: Truth, sale: Sale) -> None:
    if sale.going and sale.state != "pending":
        sale.state = "active" if sale.state == "suspended" else "suspended"
        truth.call("update", sale, status=sale.status)


def _cancel(truth: Truth, sale: Sale) -> None:
    if sale.going:
        sale.state, sale.machine.there = "cancelled", False
        truth.call("delete", sale)


def _cancel_keep(_: Truth, sale: Sale) -> None:
    sale.state = "cancelled" if sale.going else sale.state
    sale.machine.there &= not sale.machine.hidden


def _destroy(_: Truth, sale: Sale) -> None:
    sale.machine.there &= sale.machine.hidden


def _vanish(_: Truth, sale: Sale) -> None:
    sale.listed = False
    sale.machine.there &= not sale.machine.hidden


def _vanish_both(_: Truth, sale: Sale) -> None:
    sale.listed = sale.machine.there = False


def _migrate(truth: Truth, sale: Sale) -> None:
    sale.machine.started_at = truth.now  # a live migration starts a process on the other node
    sale.machine.node = NODES[sale.machine.node == NODES[0]]


def _reuse(truth: Truth, sale: Sale) -> None:
    if sale.going and sale.machine.there and not sale.machine.hidden:
        _cancel(truth, sale)
        kind = "linked" if sale.says_all else "loose"
        truth.call("create", truth.sell(int(sale.owner), kind, key=sale.machine.key))


def _late_create(truth: Truth, sale: Sale) -> None:
    if sale.going and sale.on_proxmox:
        late = truth.sell(int(sale.owner) - 1)
        late.late = True
        _vanish_both(truth, late)
        truth.sell(int(sale.owner), "missed", key=late.machine.key)
        truth.call("create", late)


def _resold(truth: Truth, sale: Sale) -> None:
    if sale.going and sale.on_proxmox and sale.machine.keys == (sale.machine.key,):
        sale.machine.there, sale.muddled = False, True
        truth.sell(int(sale.owner), "missed", key=sale.machine.key).muddled = True


def _takeover(truth: Truth, sale: Sale) -> None:
    if sale.going and sale.on_proxmox and sale.machine.keys == (sale.machine.key,) and sale.clone is None:
        taken = truth.sell(int(sale.owner), "missed")
        taken.machine, taken.cpu = sale.machine, sale.cpu
        sale.listed, sale.muddled, taken.muddled = False, True, True


def _swap(truth: Truth, sale: Sale) -> None:
    _swap_silently(truth, sale)
    sold = truth.sales[-1]
    if sold.machine.key == sale.machine.key and sold is not sale:
        truth.call("create", sold, **_place(sold))


def _swap_silently(truth: Truth, sale: Sale) -> None:
    old = sale.machine
    if sale.going and sale.on_proxmox and old.keys == (old.key,) and sale.clone is None and not old.forbidden:
        _resold(truth, sale)
        new = truth.sales[-1].machine
        new.name, new.cores, new.node, new.power = old.name, old.cores, old.node, old.power
        truth.sales[-1].name, truth.sales[-1].cpu = sale.name, sale.cpu


def _switch_there(truth: Truth, sale: Sale) -> None:
    there = [m for m in truth.machines if sale.machine.key in m.keys and not m.template and not m.away]
    for machine in there[:1]:
        machine.power = PowerState.STOPPED if machine.power is PowerState.RUNNING else PowerState.RUNNING
        machine.started_at = truth.now


def _conflict(truth: Truth, sale: Sale) -> None:
    if sale.going and sale.on_proxmox:
        other = truth.sell(int(sale.owner))
        sale.muddled = other.muddled = True
        truth.call("create", other)
        truth.calls[-1].payload.update(_place(sale))


def _sold_on(truth: Truth, sale: Sale) -> None:
    if sale.going and sale.on_proxmox and sale.machine.keys == (sale.machine.key,) and sale.clone is None:
        taken = truth.sell(int(sale.owner), "missed")
        taken.machine, taken.cpu = sale.machine, sale.cpu
        sale.state, sale.muddled, taken.muddled = "cancelled", True, True


def _template(_: Truth, sale: Sale) -> None:
    # One that moved lately may not have been followed yet: no template is looked for at another address.
    if sale.machine.keys == (sale.machine.key,) and sale.clone is None and sale.machine.left is None:
        sale.machine.template, sale.machine.power, sale.muddled = True, PowerState.STOPPED, True


def _forbid(_: Truth, sale: Sale) -> None:
    sale.machine.forbidden = not sale.machine.forbidden


def _misaddress(truth: Truth, sale: Sale) -> None:
    others = [s for s in truth.sales if s is not sale and s.on_proxmox and s.machine.there]
    if sale.going and sale.on_proxmox and others:
        sale.muddled = others[-1].muddled = True
        truth.call("update", sale, status=sale.status, **_place(others[-1]))


def _renumber(truth: Truth, sale: Sale) -> None:
    machine = sale.machine
    if sale.going and machine.keys == (machine.key,) and sale.clone is None:
        machine.left, machine.leaving, machine.started_at = machine.key, 0, truth.now
        machine.key = truth.free_key(machine.key.cluster, machine.key.vmid + 300)


def _clone(truth: Truth, sale: Sale) -> None:
    machine = sale.machine
    if sale.clone is not None:
        sale.clone = None
    elif len(machine.keys) == 1:
        truth.made += 1
        key = GuestKey(machine.key.cluster, 700 + truth.made)
        sale.clone = Machine(key, machine.node, machine.fingerprint, "copy", machine.cores)


def _move(truth: Truth, sale: Sale) -> None:
    machine = sale.machine
    if machine.keys == (machine.key,) and sale.clone is None:
        there = CLUSTERS[machine.key.cluster == CLUSTERS[0]]
        machine.left, machine.leaving, machine.started_at = machine.key, 2, truth.now
        machine.key = truth.free_key(there, machine.key.vmid)


def _move_unread(truth: Truth, sale: Sale) -> None:
    before = sale.machine.key
    _move(truth, sale)
    sale.machine.forbidden |= sale.machine.key != before


def _reinstall(truth: Truth, sale: Sale) -> None:
    machine = sale.machine
    if sale.going and machine.keys == (machine.key,) and sale.clone is None:
        machine.started_at = truth.now
        machine.reinstalls, machine.template = machine.reinstalls + 1, False
        machine.fingerprint = f"{machine.fingerprint.split('r')[0]}r{machine.reinstalls}"
        machine.name += "-anew"


def _lock(truth: Truth, sale: Sale) -> None:
    if sale.machine.lock is None:
        sale.machine.lock, sale.machine.locked_at = "migrate", truth.now


def _transfer(_: Truth, sale: Sale) -> None:
    sale.owner = str(1 + int(sale.owner) % CUSTOMERS)


def _resize(truth: Truth, sale: Sale) -> None:
    sale.cpu += 50  # two plans never become one
    sale.machine.cores = sale.cpu
    if sale.going:
        truth.call("update", sale, cpu=sale.cpu)


def _stray(truth: Truth, _: Sale) -> None:
    truth.made += 1
    key = GuestKey(CLUSTERS[0], 500 + truth.made)
    truth.strays.append(Machine(key, NODES[0], f"smbios:stray{truth.made}", "by-hand", 64))


def _backup(truth: Truth, sale: Sale) -> None:
    if sale.machine.lock is None:
        sale.machine.lock, sale.machine.locked_at = "backup", truth.now


def _blink(_: Truth, sale: Sale) -> None:
    if (
        sale.going
        and len(sale.machine.keys) == 1
        and sale.clone is None
        and sale.mistaken < 2
        and sale.machine.unseen < 2
    ):
        sale.mistake["status"] = "cancelled"
        sale.machine.away = True


def _blink_owner(_: Truth, sale: Sale) -> None:
    if sale.mistaken < 1:
        sale.mistake["owner"] = str(1 + int(sale.owner) % CUSTOMERS)


_EVENTS: dict[str, Callable[[Truth, Sale], None]] = {
    "buy": _buy, "power": _power, "suspend": _suspend, "cancel": _cancel, "cancel-keep": _cancel_keep,
    "destroy": _destroy, "vanish": _vanish, "vanish-both": _vanish_both, "migrate": _migrate, "reuse": _reuse,
    "transfer": _transfer, "resize": _resize, "stray": _stray, "backup": _backup, "blink": _blink,
    "blink-owner": _blink_owner, "twin": _twin, "provision": _provision, "clone": _clone, "move": _move,
    "reinstall": _reinstall, "late-create": _late_create, "resold": _resold, "takeover": _takeover,
    "forbid": _forbid, "misaddress": _misaddress, "renumber": _renumber, "lock-forgotten": _lock,
    "swap": _swap, "swap-paused": _swap_silently, "swap-unread": _swap_silently, "switch-there": _switch_there,
    "conflict": _conflict, "sold-on": _sold_on, "template": _template, "move-unread": _move_unread,
}  # fmt: skip
