"""Findings: what is reported and not repaired, of which class and severity, and what is not even reported yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from domain.guests import FingerprintState
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from tests.unit.reconcile.worlds import LOOSE, POLICY, UNLINKED, absence, ago, asks, guest, order, record, world


class Found(NamedTuple):
    world: World
    class_: str | None
    severity: str | None
    reason: str


GOING = {"orders": (order(),), "guests": (guest(),)}
UNREAD = guest(
    fingerprint=None,
    fingerprint_state=FingerprintState.UNREAD,
    changed_at=ago(minutes=30),
    fingerprint_tried_at=ago(minutes=29),
)
FINDINGS = [
    Found(
        world(
            orders=(order(state=OrderState.SUSPENDED),),
            guests=(guest(),),
            records=(record(order_state=OrderState.SUSPENDED),),
        ),
        "suspended-but-running",
        "warning",
        "running under a suspension",
    ),
    Found(
        world(
            orders=(order(state=OrderState.ENDED, state_since=ago(days=1)),),
            guests=(guest(),),
            records=(record(order_state=OrderState.ENDED),),
        ),
        "ended-but-running",
        "info",
        "kept for a while",
    ),
    Found(
        world(
            orders=(order(state=OrderState.ENDED, state_since=ago(days=8)),),
            guests=(guest(),),
            records=(record(order_state=OrderState.ENDED),),
        ),
        "ended-but-running",
        "alarm",
        "kept for too long",
    ),
    Found(world(orders=(order(state=OrderState.PENDING, state_since=ago(hours=1)),)), None, None, "young and pending"),
    Found(
        world(orders=(order(state=OrderState.PENDING, state_since=ago(hours=2)),)),
        "stuck-creating",
        "warning",
        "pending for hours",
    ),
    Found(world(guests=(guest(first_seen_at=ago(seconds=60)),)), None, None, "a guest whose order may follow"),
    Found(world(guests=(guest(),)), "unmanaged-guest", "info", "a guest that no order names"),
    Found(world(guests=(guest(),), orders_at=None), None, None, "orders were never completely read"),
    Found(
        world(guests=(guest(),), records=(record(),), order_absences={"1": absence()}),
        "guest-without-order",
        "warning",
        "the order vanished, the guest is there",
    ),
    Found(
        world(records=(record(),), order_absences={"1": absence()}),
        "order-vanished",
        "warning",
        "the order vanished, nothing proves that the guest did",
    ),
    Found(
        world(**GOING, records=(record(deleted_at=ago(days=1)),)), "deleted-but-alive", "alarm", "deleted, yet going"
    ),
    Found(
        world(**GOING, records=(record(deleted_at=ago(minutes=3)),)),
        None,
        None,
        "both reads must begin after the delete and its grace",
    ),
    Found(
        world(
            orders=(order(effective_at=ago(minutes=5)),),
            guests=(guest(),),
            records=(record(deleted_at=ago(minutes=4)),),
        ),
        None,
        None,
        "the feed is older than the delete",
    ),
    Found(
        world(
            orders=(order(state=OrderState.ENDED, status="cancelled", effective_at=ago(days=2)),),
            guests=(guest(),),
            records=(record(deleted_at=ago(days=1)),),
        ),
        "ended-but-running",
        "alarm",
        "deleted and ended, the order is listed no more, and its guest is there",
    ),
    Found(
        world(
            orders=(order(state=OrderState.ENDED, status="cancelled", effective_at=ago(days=2)),),
            guests=(guest(fingerprint="smbios:b"),),
            records=(record(deleted_at=ago(days=1)),),
        ),
        "unmanaged-guest",
        "info",
        "another machine stands at the address of a deleted one",
    ),
    Found(world(records=(record(**LOOSE),)), "unlinked-record", "info", "no order shows for it"),
    Found(world(records=(record(**LOOSE | {"created_at": ago(seconds=100)}),)), None, None, "its order may follow"),
    Found(
        world(records=(record(**LOOSE | {"created_at": ago(minutes=29)}),), orders_at=ago(minutes=30)),
        None,
        None,
        "no sweep since it was made",
    ),
    Found(
        world(records=(record(**LOOSE | {"created_at": ago(minutes=30)}),), orders_at=ago(minutes=40)),
        "unlinked-record",
        "info",
        "no sweep for too long",
    ),
    Found(world(records=(record(**LOOSE),), orders_at=None), "unlinked-record", "info", "no sweep ever"),
    Found(world(records=(record(**LOOSE),), orders_at=None, has_feed=False), None, None, "no feed: nothing to miss"),
    Found(
        world(
            orders=(order(),),
            guests=(guest(fingerprint_state=FingerprintState.FORBIDDEN),),
            records=(record(link_state=LinkState.UNVERIFIED),),
        ),
        "unverified-guest",
        "warning",
        "its identity cannot be read: give the token VM.Audit",
    ),
    Found(
        world(orders=(order(),), guests=(UNREAD,)),
        "unverified-guest",
        "warning",
        "a guest without a record that cannot be read for long",
    ),
    Found(
        world(orders=(order(),), guests=(replace(UNREAD, changed_at=ago(minutes=29)),)),
        None,
        None,
        "not for so long yet",
    ),
    Found(
        world(orders=(order(),), guests=(replace(UNREAD, fingerprint_tried_at=None),)),
        None,
        None,
        "its turn is still to come",
    ),
    Found(
        world(orders=(order(),), guests=(replace(UNREAD, fingerprint_tried_at=ago(minutes=31)),)),
        None,
        None,
        "it was asked about before its list told something new",
    ),
    Found(
        world(orders=(order(),), guests=(UNREAD,), records=(record(fingerprint=None, link_state=LinkState.PUSHED),)),
        "unverified-guest",
        "warning",
        "a record's guest that cannot be read for long",
    ),
    Found(
        world(
            orders=(order(),),
            guests=(guest(fingerprint=None, fingerprint_state=FingerprintState.FORBIDDEN),),
            records=(record(fingerprint=None, link_state=LinkState.UNVERIFIED),),
        ),
        None,
        None,
        "who it is was never known",
    ),
]


@pytest.mark.parametrize("case", FINDINGS, ids=lambda c: c.reason)
def test_findings(case: Found) -> None:
    found = plan(case.world, POLICY)
    told = [(f.class_, f.severity) for f in found.findings]
    assert told == ([(case.class_, case.severity)] if case.class_ else []), case.reason
    assert [c for c in found.changes if asks(c) is None] == [], "reported, not repaired"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        pytest.param({}, "VPS 2 name it, too", id="a call named it for the record"),
        pytest.param({"claimed_vmid": 105}, "no other order or record names it", id="a call named another"),
        pytest.param({"deleted_at": ago(days=1)}, "no other order or record names it", id="the record was deleted"),
    ],
)
def test_a_guest_that_a_call_named_for_another_record_is_not_called_removable(other: dict[str, Any], said: str) -> None:
    claims = UNLINKED | {"link_state": LinkState.CONFLICT, "claimed_cluster": "main", "claimed_vmid": 100}
    disputed = record(**claims | {"id": 2, "user_id": 6, "order_id": "2"} | other)
    seen = world(
        orders=(
            order(state=OrderState.ENDED, status="cancelled", state_since=ago(days=8)),
            order(order_id="2", user_id=6, owner="6", name="other", cluster=None, node=None, vmid=None),
        ),
        guests=(guest(fingerprint_read_at=ago(minutes=5)),),
        records=(record(order_state=OrderState.ENDED), disputed),
    )
    (told,) = [f for f in plan(seen, POLICY).findings if f.class_ == "ended-but-running"]
    assert said in told.reason
    assert told.severity == "alarm"


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        pytest.param({"fingerprint": "smbios:b"}, "do not remove guest main/100: it is smbios:b now", id="another one"),
        pytest.param({"fingerprint_read_at": ago(hours=2)}, "do not remove guest main/100", id="read long ago"),
        pytest.param({}, "the machine that was sold, and no other order or record names it", id="its own"),
    ],
)
def test_of_a_deleted_record_whose_order_goes_on_it_says_which_machine_it_is(seen: dict[str, Any], said: str) -> None:
    """Its VMID may be the next customer's by now: that order need not name a guest."""
    there = guest(**{"fingerprint_seen": 2, "fingerprint_read_at": ago(minutes=5)} | seen)
    found = plan(world(orders=(order(),), guests=(there,), records=(record(deleted_at=ago(days=1)),)), POLICY)
    (told,) = [f for f in found.findings if f.class_ == "deleted-but-alive"]
    assert said in told.reason
    assert told.severity == "alarm"


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        pytest.param({"fingerprint_read_at": ago(hours=2)}, "do not remove guest main/100", id="read long ago"),
        pytest.param({}, "smbios:", id="its own"),
    ],
)
def test_of_a_guest_whose_order_vanished_it_says_which_machine_it_is(seen: dict[str, Any], said: str) -> None:
    there = guest(**{"fingerprint_seen": 2, "fingerprint_read_at": ago(minutes=5)} | seen)
    found = plan(world(guests=(there,), records=(record(),), order_absences={"1": absence()}), POLICY)
    (told,) = [f for f in found.findings if f.class_ == "guest-without-order"]
    assert said in told.reason
