"""Arbitrary worlds of few orders, guests and records that share keys as often as not, and a tiny interpreter.

Records keep what the database's constraints keep: one live record for an order and for a guest, and a link state
that fits the link.
"""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from domain.absences import Absence
from domain.changes import Change, Merge
from domain.guests import FingerprintState, Guest, GuestKey, GuestType, PowerState
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from reconcile.decision.cases import World
from tests.unit.reconcile.worlds import NOW, ago

KEYS = (GuestKey("main", 100), GuestKey("main", 101), GuestKey("second", 100))
PRINTS = ("smbios:a", "smbios:b", "mac:c")
NAMES = ("web", "db")
MOMENTS = tuple(ago(seconds=s) for s in (5, 60, 125, 600, 3_600, 100_000, 2_000_000))

moments = st.sampled_from(MOMENTS)
maybe = st.one_of(st.none(), moments)
customers = st.sampled_from((5, 6))
plans: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"cpu": st.sampled_from((2, 4)), "ram_mb": st.just(4096), "disk_gb": st.just(50)}
)
some_keys = st.one_of(st.none(), st.sampled_from(KEYS))


@st.composite
def orders(draw: st.DrawFn, order_id: str) -> Order:
    key = draw(some_keys)
    state = draw(st.sampled_from(OrderState))
    status = draw(st.sampled_from(("running", "stopped", "error"))) if state is OrderState.ACTIVE else state.value
    return Order(
        order_id,
        state,
        status,
        owner=draw(st.sampled_from(("1", "2"))),
        user_id=draw(st.one_of(st.none(), customers)),
        panel_vps_id=draw(st.one_of(st.none(), st.integers(1, 5))),
        name=draw(st.one_of(st.none(), st.sampled_from(NAMES))),
        os="Debian",
        hypervisor=draw(st.sampled_from(("proxmox", "proxmox", "vmware", None))),
        cluster=key.cluster if key else None,
        vmid=key.vmid if key else None,
        created_at=draw(maybe),
        effective_at=draw(maybe),
        first_seen_at=draw(moments),
        state_since=draw(moments),
        owner_since=draw(moments),
        mapped_at=draw(moments),
        **draw(plans),
    )


@st.composite
def guests(draw: st.DrawFn, key: GuestKey) -> Guest:
    state = draw(st.sampled_from(FingerprintState))
    unread = state is FingerprintState.UNREAD
    lock = draw(st.sampled_from((None, None, "backup", "suspended")))
    power = draw(st.sampled_from(PowerState))
    return Guest(
        key.cluster,
        key.vmid,
        draw(st.sampled_from(GuestType)),
        draw(st.sampled_from(("pve1", "pve2"))),
        power.value,
        power,
        name=draw(st.sampled_from(NAMES)),
        lock=lock,
        template=draw(st.sampled_from((False, False, False, True))),
        cores=2.0,
        memory_mb=4096,
        fingerprint=None if unread else draw(st.sampled_from(PRINTS)),
        fingerprint_state=state,
        read_at=draw(moments),
        first_seen_at=draw(moments),
        previous_read_at=draw(maybe),
        fingerprint_seen=draw(st.integers(1, 2)),
        lock_since=draw(maybe) if lock else None,
    )


@st.composite
def records(draw: st.DrawFn, record_id: int) -> Record:
    key = draw(some_keys)
    linked = (LinkState.PUSHED, LinkState.VERIFIED, LinkState.UNVERIFIED)
    state = draw(st.sampled_from(linked if key else (LinkState.UNLINKED, LinkState.CONFLICT)))
    deleted = draw(st.sampled_from((None, None, None, *MOMENTS[:3])))
    return Record(
        record_id,
        draw(customers),
        draw(st.sampled_from(NAMES)),
        os="Debian",
        hypervisor=draw(st.sampled_from(("proxmox", "proxmox", "proxmox", "vmware"))),
        version=draw(st.integers(1, 3)),
        order_state=draw(st.sampled_from(OrderState)),
        power_state=draw(st.sampled_from(PowerState)),
        created_at=draw(moments),
        order_changed_at=draw(moments),
        power_changed_at=draw(moments),
        owner_changed_at=draw(moments),
        plan_changed_at=draw(moments),
        link_changed_at=draw(moments),
        link_state=state,
        order_id=draw(st.one_of(st.none(), st.sampled_from(("1", "2", "3")))),
        cluster=key.cluster if key else None,
        node=draw(st.sampled_from(("pve1", None))) if key else None,
        vmid=key.vmid if key else None,
        guest_type=GuestType.QEMU if key else None,
        fingerprint=draw(st.sampled_from(PRINTS)) if state is LinkState.VERIFIED else None,
        power_source=draw(st.sampled_from(("sync", "proxmox"))),
        last_update_at=draw(maybe),
        missing_since=draw(st.sampled_from((None, None, MOMENTS[2]))),
        deleted_at=deleted,
        merged_into=draw(st.sampled_from((None, 1))) if deleted and record_id > 1 else None,
        protected_until=draw(st.sampled_from((None, None, NOW + timedelta(days=1)))),
        order_linked_once=draw(st.booleans()),
        guest_linked_once=draw(st.booleans()),
        in_flight=draw(st.sampled_from((False, False, False, True))),
        **draw(plans),
    )


@st.composite
def absences(draw: st.DrawFn) -> Absence:
    return Absence(draw(moments), draw(st.integers(1, 4)), draw(st.sampled_from((MOMENTS[0], MOMENTS[2]))), (1, 2))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Anything that could be observed."""
    sold = tuple(draw(orders(str(n))) for n in range(1, draw(st.integers(0, 3)) + 1))
    there = tuple(draw(guests(key)) for key in draw(st.sets(st.sampled_from(KEYS))))
    kept = _constrained(tuple(draw(records(n)) for n in range(1, draw(st.integers(0, 4)) + 1)))
    clusters = draw(st.sampled_from((frozenset({"main", "second"}), frozenset({"main"}), frozenset[str]())))
    shown = {g.key for g in there}
    made = World(
        NOW,
        sold,
        there,
        kept,
        {
            i: draw(absences())
            for i in draw(st.sets(st.sampled_from(("1", "2", "3"))))
            if i not in {o.order_id for o in sold}
        },
        {k: draw(absences()) for k in draw(st.sets(st.sampled_from(KEYS))) if k not in shown},
        clusters,
        frozenset(draw(st.sets(st.sampled_from(sorted(clusters))))) if clusters else clusters,
        draw(maybe),
        draw(maybe),
        draw(maybe),
        draw(st.sampled_from((True, True, True, False))),
        draw(st.booleans()),
    )
    unread = tuple(g for g in there if g.fingerprint is None and g.fingerprint_state is not FingerprintState.READ)
    read = {cluster: moment for cluster in sorted(clusters) if (moment := draw(maybe)) is not None}
    made = replace(made, unidentified=draw(st.sampled_from(((), unread, None))), last_read=read)
    for order_id in draw(st.sampled_from(((), (), ("1",), ("2", "3")))):
        made = missed(made, order_id)
    return made


def missed(seen: World, order_id: str) -> World:
    """The same world, after a full read that left an order out for the first time."""
    left = tuple(o for o in seen.orders if o.order_id == order_id)
    absences = seen.order_absences | {o.order_id: Absence(NOW, 1, NOW, (1,)) for o in left}
    listed = tuple(o for o in seen.orders if o.order_id != order_id)
    return replace(seen, orders=listed, missed_orders=seen.missed_orders + left, order_absences=absences)


def _constrained(drawn: tuple[Record, ...]) -> tuple[Record, ...]:
    """The first live record keeps an order or a guest, as the unique indexes would have it."""
    seen_orders: set[str] = set()
    seen_keys: set[GuestKey] = set()
    kept: list[Record] = []
    for record in drawn:
        if not record.live:
            kept.append(record)
            continue
        if record.order_id in seen_orders:
            record = replace(record, order_id=None)  # noqa: PLW2901 - the constrained one from here on
        if record.guest_key in seen_keys:
            record = unlinked(record, record.link_changed_at)  # noqa: PLW2901
        seen_orders |= {record.order_id} if record.order_id else set()
        seen_keys |= {record.guest_key} if record.guest_key else set()
        kept.append(record)
    return tuple(kept)


def unlinked(record: Record, at: datetime) -> Record:
    nothing: dict[str, Any] = dict.fromkeys(("cluster", "node", "vmid", "guest_type", "fingerprint"))
    return replace(record, **nothing, link_state=LinkState.UNLINKED, link_changed_at=at)


# --- the interpreter

_FIELDS = {f.name for f in fields(Record)}
_TYPES: dict[str, Any] = {
    "order_state": OrderState, "power_state": PowerState, "link_state": LinkState, "guest_type": GuestType,
}  # fmt: skip


def _columns(values: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in values.items() if k in _FIELDS}
    return {k: _TYPES[k](v) if k in _TYPES and v is not None else v for k, v in kept.items()}


def applied(world: World, changes: tuple[Change, ...]) -> World:
    """The world after all changes were written, seen by the same reads again."""
    kept = {r.id: r for r in world.records}
    for change in changes:
        _apply(kept, change)
    return replace(world, records=tuple(kept.values()))


def _apply(kept: dict[int, Record], change: Change) -> None:
    if change.action == "create":
        new_id = max(kept, default=0) + 100
        kept[new_id] = _created(new_id, change)
        return
    assert change.record is not None
    record = kept[change.record.id]
    record = replace(record, version=record.version + 1)
    match change.action:
        case "delete":
            record = replace(record, deleted_at=NOW)
        case "unlink":
            record = unlinked(record, NOW)
        case "merge":
            assert isinstance(change, Merge)
            survivor = kept[change.survivor.id]
            record = replace(record, deleted_at=NOW, merged_into=survivor.id)
            kept[survivor.id] = _inheriting(survivor, change.record, takes_guest=change.takes_guest)
        case _:
            record = replace(record, **_columns(dict(change.values)))
    kept[record.id] = record


def _inheriting(survivor: Record, loser: Record, *, takes_guest: bool) -> Record:
    new: dict[str, Any] = {"version": survivor.version + 1}
    if survivor.order_id is None and loser.order_id is not None:
        new |= {"order_id": loser.order_id, "order_linked_once": True}
    if (takes_guest or survivor.vmid is None) and loser.vmid is not None:
        names = ("cluster", "node", "vmid", "guest_type", "fingerprint", "link_state", "link_changed_at")
        new |= {name: getattr(loser, name) for name in names} | {"guest_linked_once": True}
    return replace(survivor, **new)


def _created(new_id: int, change: Change) -> Record:
    times: dict[str, Any] = dict.fromkeys(
        ("created_at", "order_changed_at", "power_changed_at", "owner_changed_at", "plan_changed_at"), NOW
    )
    return Record(
        id=new_id,
        version=1,
        **_columns(dict(change.values)),
        **times,
        link_changed_at=NOW,
        order_linked_once=True,
        guest_linked_once="vmid" in change.values,
    )
