"""A machine that is, or may be, somebody else's: no record takes its identity or its power, and none is made for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from sqlalchemy import create_engine

from domain.changes import Kind
from domain.confirmations import OrderIsOver, OrderNamesGuest
from domain.guests import FingerprintState, GuestKey, GuestType, PowerState
from domain.left_out import LeftOut
from domain.orders import OrderState
from domain.records import LinkState
from domain.source_protocols import Found, Gone, Unclear
from reconcile import confirming
from reconcile.confirming import Confirmer
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from tests.unit.reconcile.worlds import (
    KEY,
    POLICY,
    UNLINKED,
    absence,
    ago,
    asks,
    guest,
    order,
    questions,
    record,
    world,
)

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

HOMELESS = replace(THEIRS, **NAMELESS, created_at=ago(hours=1))
REINSTALLED += [
    Case(
        "it may be a later order's that names none yet",
        world(orders=(OWN, HOMELESS), guests=(guest(**NEW),), records=(record(),)),
        [(Kind.CREATE, None)],
        {"ambiguous"},
    ),
    Case(
        "a record's address is in dispute",
        world(
            orders=(OWN, replace(HOMELESS, created_at=None)),
            guests=(guest(**NEW),),
            records=(record(), replace(SECOND, **UNLINKED | {"link_state": LinkState.CONFLICT})),
        ),
        [],
        {"ambiguous"},
    ),
    Case(
        "a later order's machine is another type",
        world(orders=(OWN, replace(HOMELESS, guest_type=GuestType.LXC)), guests=(guest(**NEW),), records=(record(),)),
        [(Kind.LINK, 1), (Kind.CREATE, None)],
        set(),
    ),
    Case(
        "a later order without a guest was left out",
        world(
            orders=(OWN,), guests=(guest(**NEW),), records=(record(),), left_out=LeftOut(homeless={None: ago(days=1)})
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
            left_out=LeftOut(homeless={GuestType.LXC: ago(days=1), None: ago(days=99)}),
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


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=f"{group}: {c.reason}") for group, cases in GROUPS.items() for c in cases],
)
def test_nothing_of_it_is_written(case: Case) -> None:
    made = plan(case.seen, POLICY)
    said = [(c.kind, c.record.id if c.record is not None else None) for c in made.changes if asks(c) is None]
    assert said == case.changes, [c.reason for c in made.changes]
    assert {f.class_ for f in made.findings} == case.findings


def test_who_was_told_no_order_is_linked_by_an_order_that_is_asked() -> None:
    """An old copy of the feed may name the address; the order says by itself whether it still does."""
    loose = record(**PUSHED, **LOOSE, name="another name")
    (change,) = plan(world(orders=(OWN,), guests=(guest(**OFF),), records=(loose,)), POLICY).changes
    assert (change.kind, change.order, questions(change)) == (Kind.LINK, OWN, (OrderNamesGuest,))


def test_a_record_whose_order_ended_and_that_gave_up_its_guest_unseen_waits_for_an_approval() -> None:
    disputed = record(**UNLINKED | {"link_state": LinkState.CONFLICT}, order_state=OrderState.ENDED)
    made = plan(world(orders=(ENDED, THEIRS), guests=(guest(),), records=(disputed,)), POLICY)
    (change,) = [c for c in made.changes if c.action == "delete"]
    assert (change.record, questions(change)) == (disputed, (OrderIsOver,))
    assert asks(change) is not None


def test_an_order_read_before_the_call_is_asked_what_it_names_by_now() -> None:
    told = record(**PUSHED | {"link_changed_at": ago(seconds=12)})
    seen = world(orders=(order(vmid=105, effective_at=ago(seconds=15)),), guests=(guest(),), records=(told,))
    (change,) = plan(seen, POLICY).changes
    assert (change.kind, change.guest_key, questions(change)) == (Kind.LINK, KEY, (OrderNamesGuest,))


RIVAL = order(order_id="2", name="other")
UNLINKS = world(orders=(ENDED, RIVAL), guests=(guest(),), records=(record(**UNVERIFIED, order_state=OrderState.ENDED),))


@pytest.mark.parametrize(
    ("now", "why"),
    [
        pytest.param(Found(RIVAL), None, id="it is its guest"),
        pytest.param(
            Found(replace(RIVAL, vmid=105)), "order 2 is running and names main/105 by now", id="not any more"
        ),
        pytest.param(
            Found(replace(RIVAL, **NAMELESS)), "order 2 is running and names no guest by now", id="it names none"
        ),
        pytest.param(
            Found(replace(RIVAL, state=OrderState.ENDED, status="cancelled")),
            "order 2 is cancelled and names main/100 by now",
            id="it ended",
        ),
        pytest.param(Gone("404"), "order 2 is gone by now", id="it is gone"),
        pytest.param(Unclear("503"), "order 2 could not be confirmed: 503", id="nobody can say"),
    ],
)
def test_a_guest_is_given_up_when_the_order_that_claims_it_says_so_itself(
    monkeypatch: pytest.MonkeyPatch, now: Any, why: str | None
) -> None:
    class Feed:
        def order(self, order_id: str, control: str | None) -> Any:
            assert (order_id, control) == ("2", "9")
            return now

    monkeypatch.setattr(confirming, "control_order", lambda *_, **__: "9")
    (change,) = [c for c in plan(UNLINKS, POLICY).changes if c.kind is Kind.UNLINK]
    feed: Any = Feed()
    confirmer = Confirmer(create_engine("sqlite://"), feed, {}, frozenset(), frozenset())
    assert confirmer.hindrance(change)[0] == why
    nobody = Confirmer(create_engine("sqlite://"), None, {}, frozenset(), frozenset())
    assert str(nobody.hindrance(change)[0]).startswith("no order could be looked up: ")
