"""What happens to sales and machines, by the words that stories are told in."""

from __future__ import annotations

from collections.abc import Callable

from domain.guests import GuestKey, PowerState
from tests.convergence.harness.story import CUSTOMERS, Happening
from tests.convergence.harness.truth import CLUSTERS, NODES, RESIZE, Machine, Sale, Truth, place


def happen(truth: Truth, happening: Happening) -> None:
    """Let it happen, if it can."""
    if (event := _EVENTS.get(happening.kind)) is not None:
        event(truth, truth.sale(happening.subject))


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
        truth.call("update", sale, status=sale.status, **(place(sale) if sale.says_all else {}))


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


def _unmade(truth: Truth, sale: Sale) -> None:
    sold = truth.sell(int(sale.owner) - 1, "missed")
    sold.machine.there, sold.unmade = False, True


def _unmade_vmid(truth: Truth, _: Sale) -> None:
    before = [s for s in truth.sales if s.unmade and s.going]
    if before and before[-1] is truth.sales[-1]:
        before[-1].muddled = True
        truth.sell(int(before[-1].owner), "missed", key=before[-1].machine.key).muddled = True


def _swap(truth: Truth, sale: Sale) -> None:
    _swap_silently(truth, sale)
    sold = truth.sales[-1]
    if sold.machine.key == sale.machine.key and sold is not sale:
        truth.call("create", sold, **place(sold))


def _swap_silently(truth: Truth, sale: Sale) -> None:
    if _replaceable(sale):
        _resold(truth, sale)
        _look_alike(truth.sales[-1], sale)


def _replaceable(sale: Sale) -> bool:
    old = sale.machine
    alone = old.keys == (old.key,) and sale.clone is None and not old.forbidden
    return sale.going and sale.on_proxmox and alone


def _look_alike(new: Sale, sale: Sale) -> None:
    old = sale.machine
    new.name, new.cpu = sale.name, sale.cpu
    new.machine.name, new.machine.cores = old.name, old.cores
    new.machine.node, new.machine.power = old.node, old.power


def _swap_own(truth: Truth, sale: Sale) -> None:
    if _replaceable(sale):
        sale.machine.there, sale.muddled = False, True
        new = truth.sell(int(sale.owner) - 1, "missed", key=sale.machine.key)
        new.muddled = True
        _look_alike(new, sale)


def _swap_over(truth: Truth, sale: Sale) -> None:
    if _replaceable(sale):
        _cancel(truth, sale)
        _look_alike(truth.sell(int(sale.owner), "missed", key=sale.machine.key), sale)


def _claimed(truth: Truth, sale: Sale) -> None:
    if _replaceable(sale):
        _cancel_keep(truth, sale)
        sale.machine.there = False
        new = truth.sell(int(sale.owner), key=sale.machine.key)
        new.placed, new.muddled = False, True
        truth.call("create", new, **place(new))


def _misnamed(truth: Truth, sale: Sale) -> None:
    before = len(truth.sales)
    _conflict(truth, sale)
    if len(truth.sales) > before:
        truth.sales[-1].placed, truth.sales[-1].misnamed = False, True


def _conflict_over(truth: Truth, sale: Sale) -> None:
    before = len(truth.sales)
    _conflict(truth, sale)
    if len(truth.sales) > before:
        _cancel(truth, truth.sales[-1])


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
        truth.calls[-1].payload.update(place(sale))


def _sold_on(truth: Truth, sale: Sale) -> None:
    if sale.going and sale.on_proxmox and sale.machine.keys == (sale.machine.key,) and sale.clone is None:
        taken = truth.sell(int(sale.owner), "missed")
        taken.machine, taken.cpu = sale.machine, sale.cpu
        sale.state, sale.muddled, taken.muddled = "cancelled", True, True


def _template(_: Truth, sale: Sale) -> None:
    if sale.machine.keys == (sale.machine.key,) and sale.clone is None:
        sale.machine.template, sale.machine.power, sale.muddled = True, PowerState.STOPPED, True


def _template_moved(truth: Truth, sale: Sale) -> None:
    _template(truth, sale)
    if sale.machine.template:
        _renumber(truth, sale)


def _forbid(_: Truth, sale: Sale) -> None:
    sale.machine.forbidden = not sale.machine.forbidden


def _misaddress(truth: Truth, sale: Sale) -> None:
    others = [s for s in truth.sales if s is not sale and s.on_proxmox and s.machine.there]
    if sale.going and sale.on_proxmox and others:
        sale.muddled = others[-1].muddled = True
        truth.call("update", sale, status=sale.status, **place(others[-1]))


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
        truth.machines_made += 1
        key = GuestKey(machine.key.cluster, 700 + truth.machines_made)
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
    sale.cpu += RESIZE
    sale.machine.cores = sale.cpu
    if sale.going:
        truth.call("update", sale, cpu=sale.cpu)


def _stray(truth: Truth, _: Sale) -> None:
    truth.machines_made += 1
    key = GuestKey(CLUSTERS[0], 500 + truth.machines_made)
    truth.strays.append(Machine(key, NODES[0], f"smbios:stray{truth.machines_made}", "by-hand", 64))


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
    "swap-own": _swap_own, "swap-over": _swap_over, "claimed": _claimed, "conflict-over": _conflict_over,
    "migrate-paused": _migrate, "unmade": _unmade, "unmade-vmid": _unmade_vmid, "misnamed": _misnamed,
    "template-moved": _template_moved,
}  # fmt: skip
