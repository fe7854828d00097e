"""Worlds with a machine that is, or may be, somebody else's, in groups, and what may be written and told of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from domain.changes import Kind
from domain.guests import FingerprintState, GuestKey, GuestType, PowerState
from domain.left_out import LeftOut
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision.cases import World
from tests.unit.reconcile.worlds import KEY, UNLINKED, absence, ago, guest, order, record, world

TWO = frozenset({"main", "second"})
BOTH: dict[str, Any] = {"clusters": TWO, "trusted": TWO}
PUSHED: dict[str, Any] = {"fingerprint": None, "link_state": LinkState.PUSHED}
UNVERIFIED: dict[str, Any] = {"fingerprint": None, "link_state": LinkState.UNVERIFIED}
OFF: dict[str, Any] = {"power": PowerState.STOPPED, "status": "stopped"}
NAMELESS: dict[str, Any] = {"cluster": None, "vmid": None, "node": None, "guest_type": None}
OWN, ENDED = order(), order(state=OrderState.ENDED, status="cancelled", state_since=ago(hours=1))
THEIRS = order(order_id="2", user_id=6, owner="6", name="other")


class Case(NamedTuple):
    reason: str
    seen: World
    changes: list[tuple[Kind, int | None]]
    findings: set[str]


def _moved_to(**sold: Any) -> dict[str, Any]:
    """VPS 1's machine stands where order 2 of another customer says that its own is."""
    there = replace(THEIRS, cluster="second", vmid=107)
    return {"orders": (OWN, replace(there, **sold)), "guests": (MOVED,), **BOTH}


MOVED = guest(cluster="second", vmid=107, fingerprint="smbios:a", fingerprint_seen=2)
SECOND = record(id=2, user_id=6, order_id="2", name="other", cluster="second", vmid=107, fingerprint="smbios:b")
KNOWN = [
    Case("a create", world(records=(record(),), **_moved_to()), [], {"ambiguous"}),
    Case("a reinstalled one", world(records=(record(), SECOND), **_moved_to()), [], {"ambiguous"}),
    Case("a pushed one", world(records=(record(), replace(SECOND, **PUSHED)), **_moved_to()), [], {"ambiguous"}),
    Case(
        "one without a guest", world(records=(record(), replace(SECOND, **UNLINKED)), **_moved_to()), [], {"ambiguous"}
    ),
    Case(
        "one made anew",
        world(
            records=(record(), replace(SECOND, cluster="main", vmid=120)),
            guest_absences={GuestKey("main", 120): absence()},
            **_moved_to(),
        ),
        [],
        {"ambiguous", "moving"},
    ),
]

ABSENT: dict[str, Any] = {"guest_absences": {KEY: absence(minutes=40)}}
AT_107 = guest(vmid=107, fingerprint="smbios:a", name="other")
SOLD_107 = replace(THEIRS, vmid=107)
RESOLD = [
    Case(
        "to an owner nobody knows yet",
        world(orders=(OWN, replace(SOLD_107, user_id=None)), guests=(AT_107,), records=(record(),), **ABSENT),
        [],
        {"ambiguous"},
    ),
    Case(
        "and still pending",
        world(
            orders=(OWN, replace(SOLD_107, state=OrderState.PENDING)), guests=(AT_107,), records=(record(),), **ABSENT
        ),
        [],
        {"ambiguous"},
    ),
    Case(
        "and its own order ended",
        world(
            orders=(ENDED, replace(SOLD_107, first_seen_at=ago(seconds=60))),
            guests=(AT_107,),
            records=(record(),),
            **ABSENT,
        ),
        [],
        {"ambiguous"},
    ),
]

FORBIDDEN: dict[str, Any] = {"fingerprint_state": FingerprintState.FORBIDDEN}
UNREADABLE = [
    Case(
        "the next order's, of the same address",
        world(
            orders=(ENDED, THEIRS), guests=(guest(**FORBIDDEN, **OFF),), records=(record(order_state=OrderState.ENDED),)
        ),
        [],
        {"ambiguous"},
    ),
    Case(
        "named by two",
        world(orders=(OWN, THEIRS), guests=(guest(**FORBIDDEN, **OFF),), records=(record(),)),
        [],
        {"ambiguous"},
    ),
    Case(
        "at another address",
        world(orders=(OWN,), guests=(guest(vmid=107, **FORBIDDEN),), records=(record(),), **ABSENT),
        [],
        {"moving", "ambiguous"},
    ),
    Case(
        "an unverified one's, whose order is not listed",
        world(guests=(guest(fingerprint="smbios:b", **OFF),), records=(record(**UNVERIFIED),)),
        [],
        {"unlinked-record"},
    ),
    Case(
        "an unverified one's, whose order is missed",
        world(
            guests=(guest(fingerprint="smbios:b", **OFF),),
            records=(record(**UNVERIFIED),),
            order_absences={"1": absence()},
        ),
        [],
        {"guest-without-order"},
    ),
]

LXC = order(guest_type=GuestType.LXC)
CONTAINER = record(fingerprint="mac:x", guest_type=GuestType.LXC)
OF_ANOTHER_TYPE = [
    Case("a create", world(orders=(LXC,), guests=(guest(),)), [], {"ambiguous"}),
    Case("a first link", world(orders=(LXC,), guests=(guest(),), records=(record(**UNLINKED),)), [], {"ambiguous"}),
    Case(
        "reinstalled",
        world(orders=(LXC,), guests=(guest(fingerprint_seen=2),), records=(CONTAINER,)),
        [],
        {"ambiguous"},
    ),
    Case(
        "made anew",
        world(orders=(replace(LXC, vmid=105),), guests=(guest(vmid=105),), records=(CONTAINER,), **ABSENT),
        [],
        {"ambiguous"},
    ),
]

AT_105 = guest(vmid=105, fingerprint="smbios:b")
NEW: dict[str, Any] = {"fingerprint": "smbios:new", "fingerprint_since": ago(minutes=10)}
JUST_NOW: dict[str, Any] = NEW | {"fingerprint_since": ago(seconds=110)}
REINSTALLED = [
    Case(
        "no sweep since",
        world(orders=(OWN,), guests=(guest(**NEW),), records=(record(),), previous_orders_at=ago(minutes=9)),
        [],
        {"ambiguous"},
    ),
    Case(
        "whoever it was sold to may not be told yet",
        world(orders=(OWN,), guests=(guest(**JUST_NOW),), records=(record(),)),
        [],
        {"ambiguous"},
    ),
    Case(
        "nobody knows since when",
        world(orders=(OWN,), guests=(guest(**NEW | {"fingerprint_since": None}),), records=(record(),)),
        [],
        {"ambiguous"},
    ),
    Case(
        "never a sweep",
        world(orders=(OWN,), guests=(guest(**NEW),), records=(record(),), orders_at=None, previous_orders_at=None),
        [],
        {"ambiguous"},
    ),
    Case(
        "all orders were read since: its own",
        world(orders=(OWN,), guests=(guest(**NEW),), records=(record(),)),
        [(Kind.LINK, 1)],
        set(),
    ),
]

GUESTLESS = replace(THEIRS, **NAMELESS, created_at=ago(hours=1))
REINSTALLED += [
    Case(
        "it may be a later order's that names none yet",
        world(orders=(OWN, GUESTLESS), guests=(guest(**NEW),), records=(record(),)),
        [(Kind.CREATE, None)],
        {"ambiguous"},
    ),
    Case(
        "a later order's, and its main site calls Proxmox kvm",
        world(orders=(OWN, replace(GUESTLESS, hypervisor="kvm")), guests=(guest(**NEW),), records=(record(),)),
        [(Kind.CREATE, None)],
        {"ambiguous"},
    ),
    Case(
        "a later order's is on another hypervisor",
        world(orders=(OWN, replace(GUESTLESS, hypervisor="vmware")), guests=(guest(**NEW),), records=(record(),)),
        [(Kind.LINK, 1), (Kind.CREATE, None)],
        set(),
    ),
    Case(
        "an order that names none was made nobody knows when",
        world(orders=(OWN, replace(GUESTLESS, created_at=None)), guests=(guest(**NEW),), records=(record(),)),
        [(Kind.CREATE, None)],
        {"ambiguous"},
    ),
    Case(
        "nobody knows when its own was made",
        world(orders=(order(created_at=None), GUESTLESS), guests=(guest(**NEW),), records=(record(),)),
        [(Kind.CREATE, None)],
        {"ambiguous"},
    ),
    Case(
        "an order that was left out was made nobody knows when",
        world(
            orders=(OWN,), guests=(guest(**NEW),), records=(record(),), left_out=LeftOut(guestless_orders={None: None})
        ),
        [],
        {"ambiguous"},
    ),
    Case(
        "one was left out, and nobody knows when its own was made",
        world(
            orders=(order(created_at=None),),
            guests=(guest(**NEW),),
            records=(record(),),
            left_out=LeftOut(guestless_orders={None: ago(days=99)}),
        ),
        [],
        {"ambiguous"},
    ),
    Case(
        "a record's address is in dispute",
        world(
            orders=(OWN, replace(GUESTLESS, created_at=None)),
            guests=(guest(**NEW),),
            records=(record(), replace(SECOND, **UNLINKED | {"link_state": LinkState.CONFLICT})),
        ),
        [],
        {"ambiguous"},
    ),
    Case(
        "a later order's machine is another type",
        world(orders=(OWN, replace(GUESTLESS, guest_type=GuestType.LXC)), guests=(guest(**NEW),), records=(record(),)),
        [(Kind.LINK, 1), (Kind.CREATE, None)],
        set(),
    ),
    Case(
        "a later order without a guest was left out",
        world(
            orders=(OWN,),
            guests=(guest(**NEW),),
            records=(record(),),
            left_out=LeftOut(guestless_orders={None: ago(days=1)}),
        ),
        [],
        {"ambiguous"},
    ),
    Case(
        "only orders of another type, or made before, were left out",
        world(
            orders=(OWN,),
            guests=(guest(**NEW),),
            records=(record(),),
            left_out=LeftOut(guestless_orders={GuestType.LXC: ago(days=1), None: ago(days=99)}),
        ),
        [(Kind.LINK, 1)],
        set(),
    ),
    Case(
        "a record that is in dispute over an address was left out",
        world(orders=(OWN,), guests=(guest(**NEW),), records=(record(),), left_out=LeftOut(disputed=True)),
        [],
        {"ambiguous"},
    ),
]

OLD_ORDER = replace(THEIRS, created_at=ago(days=40))
RELINKED: dict[str, Any] = {**PUSHED, "link_changed_at": ago(minutes=1)}
ADDRESS = [
    Case(
        "never seen, ended and there: an older order's claim lets nothing go",
        world(
            orders=(ENDED, OLD_ORDER), guests=(guest(),), records=(record(**UNVERIFIED, order_state=OrderState.ENDED),)
        ),
        [],
        {"ambiguous"},
    ),
    Case(
        "free for hours, and told a minute ago",
        world(orders=(OWN,), records=(record(**RELINKED),), guest_absences={KEY: absence(times=30, hours=2)}),
        [],
        {"guest-unseen"},
    ),
    Case(
        "gone, and its order names one that is not read yet",
        world(
            orders=(order(vmid=105),),
            guests=(guest(vmid=105, fingerprint=None, fingerprint_state=FingerprintState.UNREAD),),
            records=(record(),),
            **ABSENT,
        ),
        [],
        {"ambiguous"},
    ),
    Case(
        "a call says one, its order another",
        world(orders=(order(vmid=105),), guests=(guest(**OFF), AT_105), records=(record(**PUSHED),)),
        [],
        {"ambiguous"},
    ),
    Case(
        "linked to one, its order names another that nobody holds",
        world(orders=(order(vmid=105),), guests=(guest(), AT_105), records=(record(),)),
        [],
        {"ambiguous"},
    ),
    Case(
        "listed before the call that told it",
        world(
            orders=(order(vmid=105),),
            guests=(guest(vmid=105, fingerprint="smbios:new", **OFF),),
            records=(record(vmid=105, **PUSHED | {"link_changed_at": ago(seconds=3)}),),
        ),
        [],
        set(),
    ),
]

FOREIGN = order(order_id="2", user_id=None, owner="9", panel_vps_id=1, name="theirs", vmid=200, cpu=8)
LOOSE: dict[str, Any] = {"order_id": None, "order_linked_once": False}
OF_ORDERS = [
    Case(
        "a customer whom nobody knows yet names the record",
        world(orders=(FOREIGN,), guests=(guest(),), records=(record(**LOOSE),)),
        [],
        {"ownership"},
    ),
    Case(
        "and this one read does not say whose order it is",
        world(
            orders=(replace(FOREIGN, owner=None, owner_since=ago(minutes=2)),),
            guests=(guest(),),
            records=(record(**LOOSE),),
        ),
        [],
        {"ownership"},
    ),
    Case(
        "and the record's own order is gone",
        world(orders=(FOREIGN,), guests=(guest(),), records=(record(),), order_absences={"1": absence()}),
        [],
        {"ownership"},
    ),
    Case(
        "a name joins nothing to its end",
        world(
            orders=(replace(ENDED, **NAMELESS, state_since=ago(minutes=12)),),
            guests=(guest(),),
            records=(record(**LOOSE, created_at=ago(minutes=15)),),
        ),
        [],
        {"ended-but-running"},
    ),
    Case(
        "a feed that does not say of when it is",
        world(orders=(order(effective_at=None, **NAMELESS),), guests=(guest(),), records=(record(**LOOSE),)),
        [],
        set(),
    ),
]

GROUPS = {
    "its fingerprint is known": KNOWN,
    "sold on": RESOLD,
    "unreadable": UNREADABLE,
    "type": OF_ANOTHER_TYPE,
    "reinstalled": REINSTALLED,
    "address": ADDRESS,
    "orders": OF_ORDERS,
}
