"""A record that a call linked to an address, and whose guest nobody has looked at: whose is the machine there?"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings

from domain.changes import Kind
from domain.guests import GuestType, PowerState
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from tests.unit.reconcile.disturbed import disturbed
from tests.unit.reconcile.worlds import POLICY, absence, ago, guest, order, record, world

PUSHED: dict[str, Any] = {
    "fingerprint": None, "link_state": LinkState.PUSHED, "guest_linked_once": False, "created_at": ago(minutes=20),
}  # fmt: skip
OLD: dict[str, Any] = {"created_at": ago(minutes=40)}
OWN, OTHERS, ENDED = order(), order(order_id="2", user_id=6, owner="6"), {"state": OrderState.ENDED}
NO_ORDER: dict[str, Any] = {"order_id": None, "order_linked_once": False, "name": "another name"}
PROVEN, MISSED = {"1": absence()}, {"1": absence(times=1)}


class Case(NamedTuple):
    reason: str
    orders: tuple[Any, ...]
    kept: dict[str, Any]
    rest: dict[str, Any]
    changes: list[Kind]
    finding: str | None


TAKEN, UNLINK, NOTHING = [Kind.LINK], [Kind.UNLINK], list[Kind]()
"""Its identity, and no power before that is written; or its link is given up."""
AT_ONCE = [Kind.LINK, Kind.STATUS]
CASES = [
    Case("its order names it", (OWN,), {}, {}, TAKEN, None),
    Case("its order names no guest", (order(cluster=None, vmid=None),), {}, {}, TAKEN, None),
    Case("its order is not listed yet", (), {}, {}, NOTHING, "unlinked-record"),
    Case("nobody lists orders", (), {}, {"has_feed": False, "orders_at": None}, AT_ONCE, None),
    Case("no order is known of it", (), NO_ORDER, {}, NOTHING, "unlinked-record"),
    Case("another order names it too", (OWN, OTHERS), {}, {}, NOTHING, "ambiguous"),
    Case(
        "another order names it, its own none", (order(cluster=None, vmid=None), OTHERS), {}, {}, NOTHING, "ambiguous"
    ),
    Case("another order names it, its own is not listed", (OTHERS,), {}, {}, NOTHING, "ambiguous"),
    Case("another order names it, its own was never listed", (OTHERS,), OLD, {}, UNLINK, None),
    Case("the same customer's next order", (order(order_id="2"),), {}, {}, NOTHING, "ambiguous"),
    Case("an order that may be its own", (order(order_id="2"),), NO_ORDER, {}, TAKEN, "unlinked-record"),
    Case("another customer's, who has no record", (OTHERS,), NO_ORDER, {}, NOTHING, "ambiguous"),
    Case("its order is missed", (), {}, {"order_absences": MISSED}, NOTHING, "guest-without-order"),
    Case("its order is gone", (), {}, {"order_absences": PROVEN}, NOTHING, "guest-without-order"),
    Case("its order is missed, another's names it", (OTHERS,), {}, {"order_absences": MISSED}, NOTHING, "ambiguous"),
    Case("its order is gone, another's names it", (OTHERS,), {}, {"order_absences": PROVEN}, UNLINK, None),
    Case(
        "its order ended, another's names it", (order(**ENDED, effective_at=ago(hours=1)), OTHERS), {}, {}, UNLINK, None
    ),
    Case("told as a container", (order(cluster=None, vmid=None),), {"guest_type": GuestType.LXC}, {}, NOTHING,
         "ambiguous"),
    Case("sold as a container", (order(guest_type=GuestType.LXC),), {"guest_type": None}, {}, NOTHING, "ambiguous"),
    Case("told wrongly, sold as it is", (OWN,), {"guest_type": GuestType.LXC}, {}, TAKEN, None),
    Case("nobody said which type", (order(guest_type=None),), {"guest_type": None}, {}, TAKEN, None),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.reason)
def test_whose_machine_it_is(case: Case) -> None:
    seen = world(
        orders=case.orders,
        guests=(guest(power=PowerState.STOPPED, status="stopped"),),
        records=(record(**PUSHED | case.kept),),
        **case.rest,
    )
    made = plan(seen, POLICY)
    of_record = [c for c in made.changes if c.record is not None and c.action != "delete" and c.source == "proxmox"]
    assert [c.kind for c in of_record] == case.changes
    told = [f.class_ for f in made.findings if f.vps_id == 1]
    assert told == ([case.finding] if case.finding else [])


@settings(max_examples=200, deadline=None)
@given(disturbed())
def test_a_guest_that_another_order_names_is_taken_by_nobody_unseen(seen: World) -> None:
    for change in plan(seen, POLICY).changes:
        if change.kind is not Kind.LINK or change.record is None or change.record.fingerprint is not None:
            continue
        if "vmid" not in change.values:  # it gives the record its order, and no guest
            continue
        own = change.order.order_id if change.order is not None else change.record.order_id
        others = [o for o in seen.orders if o.guest_key == change.guest_key and o.order_id != own]
        assert not [
            o
            for o in others
            if o.state is not OrderState.ENDED and (own is not None or o.user_id != change.record.user_id)
        ]
