"""Worlds that were in order until a few things happened to them: near enough to the truth to reach every guard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from domain.absences import Absence
from domain.guests import FingerprintState, Guest, GuestKey, GuestType, PowerState
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from reconcile.decision.cases import World
from tests.unit.reconcile.arbitrary import _constrained, unlinked
from tests.unit.reconcile.worlds import NOW, ago, guest, order, record

KEYS = (GuestKey("main", 100), GuestKey("main", 101), GuestKey("second", 100))
OWNERS = (5, 5, 6)
TIMES = (ago(seconds=1), ago(seconds=60), ago(seconds=140), ago(minutes=20), ago(hours=30), ago(days=15))


class Making:
    """A world in the making: three of everything, one mutable list each, numbered 0 to 2."""

    def __init__(self) -> None:
        self.orders: list[Order | None] = []
        self.guests: list[Guest | None] = []
        self.records: list[Record | None] = []
        for n, key in enumerate(KEYS):
            place: dict[str, Any] = {"cluster": key.cluster, "vmid": key.vmid}
            both: dict[str, Any] = {"user_id": OWNERS[n], "name": "web" if n < 2 else "db"}
            self.orders.append(order(order_id=str(n), **place, **both, owner=str(OWNERS[n]), panel_vps_id=n + 1))
            self.guests.append(guest(**place, fingerprint=f"smbios:{n}"))
            self.records.append(record(id=n + 1, order_id=str(n), **place, **both, fingerprint=f"smbios:{n}"))
        self.extra: list[Record] = []
        self.rest: dict[str, Any] = {
            "now": NOW, "clusters": frozenset({"main", "second"}), "trusted": frozenset({"main", "second"}),
            "orders_at": ago(seconds=5), "previous_orders_at": ago(seconds=125),
            "order_absences": {}, "guest_absences": {},
        }  # fmt: skip

    def order(self, n: int, **values: Any) -> None:
        old = self.orders[n]
        self.orders[n] = replace(old, **values) if old is not None else None

    def guest(self, n: int, **values: Any) -> None:
        old = self.guests[n]
        self.guests[n] = replace(old, **values) if old is not None else None

    def record(self, n: int, **values: Any) -> None:
        old = self.records[n]
        self.records[n] = replace(old, **values) if old is not None else None

    def world(self) -> World:
        there = {g.key: g for g in self.guests if g is not None}
        kept = _constrained(tuple(r for r in (*self.records, *self.extra) if r is not None))
        sold = tuple(o for o in self.orders if o is not None)
        absences = {k: a for k, a in self.rest["guest_absences"].items() if k not in there}
        gone = {i: a for i, a in self.rest["order_absences"].items() if i not in {o.order_id for o in sold}}
        return World(
            orders=sold,
            guests=tuple(there.values()),
            records=kept,
            **self.rest | {"guest_absences": absences, "order_absences": gone},
        )


def _absence(v: int) -> Absence:
    return Absence(
        (ago(hours=40), ago(hours=30), ago(minutes=20), ago(minutes=5))[v % 4], 3 - (v == 5), ago(seconds=10), (1, 2)
    )


def _guest_gone(m: Making, n: int, v: int) -> None:
    m.guests[n] = None
    m.rest["guest_absences"] |= {KEYS[n]: _absence(v)}


def _order_gone(m: Making, n: int, v: int) -> None:
    m.orders[n] = None
    m.rest["order_absences"] |= {str(n): _absence(v)}


def _order_ended(m: Making, n: int, v: int) -> None:
    m.order(n, state=OrderState.ENDED, status="cancelled", state_since=TIMES[v])


def _order_state(m: Making, n: int, v: int) -> None:
    state = (OrderState.SUSPENDED, OrderState.PENDING, OrderState.UNKNOWN, OrderState.SUSPENDED)[v % 4]
    m.order(n, state=state, status=state.value, state_since=TIMES[v])


def _order_ended_and_guest_gone(m: Making, n: int, v: int) -> None:
    _order_ended(m, n, 4)
    _guest_gone(m, n, v)


def _both_gone(m: Making, n: int, v: int) -> None:
    _order_gone(m, n, v)
    _guest_gone(m, n, 0)


def _other_machine(m: Making, n: int, v: int) -> None:
    m.guest(n, fingerprint="smbios:new", fingerprint_seen=1 + v % 2)


def _vmid_reused(m: Making, n: int, v: int) -> None:
    """The next order's machine stands where this one's stood; this one's order has ended."""
    other = (n + 1) % 3
    _order_ended(m, n, 4)
    _other_machine(m, n, 1)
    m.order(other, cluster=KEYS[n].cluster, vmid=KEYS[n].vmid)
    m.guests[other] = None
    if v % 2:
        m.records[other] = None


def _moved(m: Making, n: int, v: int) -> None:
    old = m.guests[n]
    if old is None:
        return
    m.guests[n] = replace(old, cluster="second" if v % 2 else "main", vmid=700 + n, node="pve9")
    m.rest["guest_absences"] |= {KEYS[n]: _absence(v)}


def _cloned(m: Making, n: int, _: int) -> None:
    m.guest((n + 1) % 3, fingerprint=f"smbios:{n}")


def _powered(m: Making, n: int, v: int) -> None:
    power = (PowerState.STOPPED, PowerState.STOPPED, PowerState.ERROR, PowerState.UNKNOWN, PowerState.STOPPED)[v % 5]
    m.guest(n, power=power, status=power.value, previous_read_at=ago(seconds=130) if v % 2 else None)


def _locked(m: Making, n: int, v: int) -> None:
    m.guest(n, lock=("backup", "suspended")[v % 2], lock_since=TIMES[v])


def _fingerprint_state(m: Making, n: int, v: int) -> None:
    state = (FingerprintState.STALE, FingerprintState.FORBIDDEN, FingerprintState.UNREAD)[v % 3]
    m.guest(n, fingerprint_state=state, **{"fingerprint": None} if state is FingerprintState.UNREAD else {})


def _record_lost(m: Making, n: int, _: int) -> None:
    m.records[n] = None


def _record_loose(m: Making, n: int, v: int) -> None:
    """The documented client's record: neither order nor guest were ever said."""
    old = m.records[n]
    if old is not None:
        loose = unlinked(old, old.link_changed_at)
        m.records[n] = replace(loose, order_id=None, order_linked_once=False, guest_linked_once=False)
    if v % 2:
        m.order(n, panel_vps_id=None)


def _record_unlinked(m: Making, n: int, v: int) -> None:
    old = m.records[n]
    if old is not None:
        state = (LinkState.UNLINKED, LinkState.CONFLICT)[v % 2]
        m.records[n] = replace(unlinked(old, old.link_changed_at), link_state=state)


def _record_changed(m: Making, n: int, v: int) -> None:
    names = ("order_changed_at", "power_changed_at", "owner_changed_at", "plan_changed_at", "link_changed_at")
    m.record(n, **{names[v % 5]: TIMES[v]}, power_source=("sync", "proxmox")[v % 2])


def _record_doubled(m: Making, n: int, v: int) -> None:
    old = m.records[n]
    if old is None or any(record.id == 10 + n for record in m.extra):  # an id is given once
        return
    second = replace(unlinked(old, old.link_changed_at), id=10 + n, order_id=None, guest_linked_once=False)
    second = replace(second, created_at=old.created_at + timedelta(seconds=v), order_linked_once=False)
    m.extra.append(replace(second, last_update_at=TIMES[v] if v % 3 == 1 else None))
    if v % 2:
        m.order(n, panel_vps_id=10 + n)


def _deleted(m: Making, n: int, v: int) -> None:
    m.record(n, deleted_at=TIMES[v], merged_into=(n + 1) % 3 + 1 if v == 5 else None)


def _in_flight(m: Making, n: int, _: int) -> None:
    m.record(n, in_flight=True)


def _protected(m: Making, n: int, _: int) -> None:
    m.record(n, protected_until=NOW + timedelta(days=1))


def _link_state(m: Making, n: int, v: int) -> None:
    state = (LinkState.PUSHED, LinkState.UNVERIFIED)[v % 2]
    m.record(n, link_state=state, fingerprint=None if v % 3 else f"smbios:{n}")


def _given(m: Making, n: int, v: int) -> None:
    m.order(n, user_id=(6, 7, None)[v % 3], owner="9", owner_since=TIMES[v])


def _named(m: Making, n: int, v: int) -> None:
    m.order(n, panel_vps_id=(None, 1, 2, 3, 99, None)[v])


def _silent_place(m: Making, n: int, v: int) -> None:
    other = KEYS[v % 3]
    m.order(n, **({"cluster": None, "vmid": None} if v < 3 else {"cluster": other.cluster, "vmid": other.vmid}))


def _plan(m: Making, n: int, v: int) -> None:
    m.order(n, **({"cpu": 8}, {"name": "new"}, {"cpu": None}, {"ip6_address": "2001:db8::9"}, {"os": None}, {})[v])


def _read_at(m: Making, n: int, v: int) -> None:
    m.order(n, effective_at=(None, *TIMES)[v], first_seen_at=TIMES[v])


def _elsewhere(m: Making, n: int, v: int) -> None:
    m.record(n, hypervisor="vmware")
    m.order(n, hypervisor="vmware" if v % 2 else None)


def _container(m: Making, n: int, _: int) -> None:
    m.guest(n, guest_type=GuestType.LXC, node="pve2")


def _untrusted(m: Making, n: int, _: int) -> None:
    m.rest["trusted"] = m.rest["trusted"] - {KEYS[n].cluster}


def _unconfigured(m: Making, n: int, _: int) -> None:
    for name in ("trusted", "clusters"):
        m.rest[name] = m.rest[name] - {KEYS[n].cluster}


def _feed(m: Making, _: int, v: int) -> None:
    m.rest |= (
        {"orders_at": None},
        {"previous_orders_at": None},
        {"orders_at": m.rest["previous_orders_at"]},
        {"has_feed": False, "orders_at": None},
        {"names_are_authoritative": False},
        {},
    )[v]


def _missing(m: Making, n: int, v: int) -> None:
    m.record(n, missing_since=TIMES[v])


EVENTS: tuple[Callable[[Making, int, int], None], ...] = (
    _guest_gone, _order_gone, _order_ended, _order_state, _order_ended_and_guest_gone, _both_gone, _other_machine,
    _vmid_reused, _moved, _cloned, _powered, _locked, _fingerprint_state, _record_lost, _record_loose,
    _record_unlinked, _record_changed, _record_doubled, _deleted, _in_flight, _protected, _link_state, _given, _named,
    _silent_place, _plan, _read_at, _elsewhere, _container, _untrusted, _unconfigured, _feed, _missing,
)  # fmt: skip

happenings = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 2), st.integers(0, 5)), max_size=6)


def world_after(happened: list[tuple[Callable[[Making, int, int], None], int, int]]) -> World:
    """Three of everything in order, and then these events, each to one of the three and in one of six ways."""
    making = Making()
    for event, n, v in happened:
        event(making, n, v)
    return making.world()


def disturbed() -> st.SearchStrategy[World]:
    """Worlds after up to six events."""
    return st.builds(world_after, happenings)
