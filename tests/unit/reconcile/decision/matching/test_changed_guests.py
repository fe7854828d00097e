"""Guests that are not what they were: another machine at the address, one made anew, one that moved, or a copy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.changes import Kind
from domain.confirmations import Confirmation, GuestLeftItsAddress, NextOrderNamesGuest, OrderIsOver
from domain.guests import FingerprintState, GuestKey, PowerState
from domain.orders import Order, OrderState
from reconcile.decision.cases import Case
from reconcile.decision.decide import plan
from tests.unit.reconcile.decision.matching.matched import cases, doubts
from tests.unit.reconcile.worlds import KEY, POLICY, UNLINKED, absence, ago, guest, order, questions, record, world

OTHER: dict[str, Any] = {"fingerprint": "smbios:other"}


def replaced(o: OrderState | None, **values: Any) -> Case:
    orders = (order(state=o),) if o is not None else ()
    (case,) = [
        c for c in cases(world(orders=orders, guests=(guest(**OTHER | values),), records=(record(),))) if c.record
    ]
    return case


def test_another_machine_at_an_ended_orders_address_counts_as_its_absence_when_seen_twice() -> None:
    assert (replaced(OrderState.ENDED).replaced, replaced(OrderState.ENDED).doubt) == (True, None)
    assert replaced(OrderState.ENDED, fingerprint_seen=1).doubt is not None


def test_another_machine_at_a_going_orders_address_is_a_reinstallation_when_seen_twice() -> None:
    assert replaced(OrderState.ACTIVE).guest is not None
    assert replaced(OrderState.ACTIVE).doubt is None
    assert replaced(OrderState.ACTIVE, fingerprint_seen=1).doubt is not None


def test_a_reinstallation_needs_an_order_that_names_the_guest_alone() -> None:
    silent = world(orders=(order(vmid=None, panel_vps_id=1),), guests=(guest(**OTHER),), records=(record(),))
    assert doubts(silent)
    rival = world(orders=(order(), order(order_id="2", name="x")), guests=(guest(**OTHER),), records=(record(),))
    assert doubts(rival)


def test_a_fingerprint_that_is_to_be_read_anew_decides_nothing() -> None:
    assert not replaced(OrderState.ENDED, fingerprint_state=FingerprintState.STALE).replaced
    assert replaced(OrderState.ENDED, fingerprint_state=FingerprintState.STALE).doubt is not None


NOBODY: dict[str, Any] = {"fingerprint": None}


@pytest.mark.parametrize("state", [OrderState.ACTIVE, OrderState.ENDED, None])
def test_a_machine_with_nothing_to_know_it_by_is_not_taken_for_the_one_that_stood_there(
    state: OrderState | None,
) -> None:
    """A VMID was given away to a container without a network card, or to a machine without a uuid."""
    found = replaced(state, **NOBODY, status="stopped", power=PowerState.STOPPED)
    assert not found.replaced
    assert found.doubt == "guest main/100 has nothing that shows whether it is VPS 1's"
    unread = replaced(state, **NOBODY, fingerprint_state=FingerprintState.UNREAD)
    assert unread.doubt is None, "it will be read first"


def test_a_list_that_is_not_trusted_replaces_nothing() -> None:
    seen = world(
        trusted=frozenset(), orders=(order(state=OrderState.ENDED),), guests=(guest(**OTHER),), records=(record(),)
    )
    (case,) = cases(seen)
    assert not case.replaced


def test_the_same_uuid_elsewhere_is_the_same_machine() -> None:
    gone = {KEY: absence()}
    seen = world(orders=(order(),), guests=(guest(cluster="second", vmid=7),), records=(record(),), guest_absences=gone)
    (case,) = cases(seen)
    assert (case.guest_key, case.doubt) == (GuestKey("second", 7), None)
    both = world(orders=(order(),), guests=(guest(), guest(cluster="second", vmid=7)), records=(record(),))
    assert [c.doubt_class for c in cases(both) if c.doubt] == ["moving"]


@pytest.mark.parametrize(
    ("named", "absences"),
    [((None, None), {}), ((None, None), {KEY: absence(2)}), (("main", 104), {KEY: absence()})],
    ids=["not missed yet", "not proven gone", "not where its order says"],
)
def test_a_list_that_leaves_a_guest_out_shows_its_copy_alone(
    named: tuple[str | None, int | None], absences: dict[GuestKey, Any]
) -> None:
    seen = world(
        orders=(order(cluster=named[0], vmid=named[1]),),
        guests=(guest(vmid=101),),
        records=(record(),),
        guest_absences=absences,
    )
    assert [c.guest for c in cases(seen) if c.record] == [None]
    assert [c.doubt_class for c in cases(seen) if c.record is None] == ["moving"]


def test_a_machine_made_anew_elsewhere_is_taken_when_the_old_one_is_gone_and_its_order_names_the_new() -> None:
    anew = guest(vmid=101, fingerprint="smbios:b")
    orders, records = (order(vmid=101),), (record(),)
    seen = world(orders=orders, guests=(anew,), records=records, guest_absences={KEY: absence()})
    assert [c.guest for c in cases(seen)] == [anew]
    unproven = world(orders=orders, guests=(anew,), records=records)
    assert [c.guest for c in cases(unproven) if c.record] == [None]
    claimed = world(
        orders=(*orders, order(order_id="2", name="b", vmid=101)),
        guests=(anew,),
        records=records,
        guest_absences={KEY: absence()},
    )
    assert [c.guest for c in cases(claimed) if c.record] == [None]


@pytest.mark.parametrize(
    ("sold", "shown", "values"),
    [
        pytest.param({"guest_since": ago(days=11)}, {}, {}, id="named since before the record had the other"),
        pytest.param({"guest_since": None}, {}, {}, id="nobody knows since when it is named"),
        pytest.param({}, {"fingerprint_seen": 1}, {}, id="seen once"),
        pytest.param({}, {"fingerprint_since": ago(seconds=60)}, {}, id="whoever it was sold to may not be told yet"),
        pytest.param(
            {}, {}, {"sightings": {"smbios:a": frozenset({KEY, GuestKey("main", 105)})}}, id="its machine is elsewhere"
        ),
    ],
)
def test_a_machine_made_anew_is_not_taken_for_sure(
    sold: dict[str, Any], shown: dict[str, Any], values: dict[str, Any]
) -> None:
    anew = guest(**{"vmid": 101, "fingerprint": "smbios:b"} | shown)
    records, absences = (record(),), {KEY: absence()}
    seen = world(orders=(order(**{"vmid": 101} | sold),), guests=(anew,), records=records, guest_absences=absences)
    assert [c.guest for c in cases(replace(seen, **values)) if c.record] == [None]


def test_a_moved_machine_that_is_seen_where_its_order_does_not_name_it_is_told() -> None:
    there = guest(vmid=501)
    seen = world(orders=(order(vmid=105),), guests=(there,), records=(record(),), guest_absences={KEY: absence()})
    assert doubts(replace(seen, guests=(there, guest(vmid=105, fingerprint="smbios:b")))) != []
    told = doubts(seen)
    assert told[0] == "its machine is seen at main/501, which may be a copy, and order 1 names main/105"


def test_a_mac_is_not_enough_to_follow_a_machine() -> None:
    seen = world(
        orders=(order(),),
        guests=(guest(cluster="second", vmid=7, fingerprint="mac:a"),),
        records=(record(fingerprint="mac:a"),),
        guest_absences={KEY: absence()},
    )
    assert [c.guest for c in cases(seen) if c.record] == [None]


def test_clones_are_quarantined() -> None:
    seen = world(orders=(order(),), guests=(guest(), guest(vmid=101)), records=(record(),))
    assert len(doubts(seen)) == 2
    assert all("a clone" in why for why in doubts(seen))


def test_an_ended_orders_unlinked_record_does_not_take_the_next_customers_guest() -> None:
    seen = world(
        orders=(order(state=OrderState.ENDED), order(order_id="2", user_id=6, name="new")),
        guests=(guest(**OTHER),),
        records=(record(**UNLINKED | {"guest_linked_once": True}),),
    )
    (case,) = [c for c in cases(seen) if c.record]
    assert (case.guest, case.guest_key, case.doubt) == (None, None, None)


SILENT = order(cluster=None, node=None, vmid=None)
NEXT_OWNER = order(order_id="2", user_id=6, owner="6", name="other")


@pytest.mark.parametrize(
    ("orders", "values", "questions_asked"),
    [
        pytest.param((SILENT,), {}, None, id="it goes on"),
        pytest.param((), {"order_absences": {"1": absence(1)}}, None, id="one read of the orders left it out"),
        pytest.param((), {"order_absences": {"1": absence(2)}}, None, id="two did"),
        pytest.param((), {"orders_at": None}, None, id="the orders were never read completely"),
        pytest.param(
            (), {"order_absences": {"1": absence()}}, (NextOrderNamesGuest, OrderIsOver), id="it is proven to be gone"
        ),
        pytest.param((), {}, (NextOrderNamesGuest, OrderIsOver), id="it was never listed"),
        pytest.param((order(state=OrderState.ENDED, status="cancelled"),), {}, (NextOrderNamesGuest,), id="it ended"),
    ],
)
def test_a_guest_is_given_up_for_another_order_only_if_its_own_is_over(
    orders: tuple[Order, ...], values: dict[str, Any], questions_asked: tuple[type[Confirmation], ...] | None
) -> None:
    """Else a paid machine that is gone would be missed by nobody, once its order is listed again."""
    seen = world(orders=(*orders, NEXT_OWNER), guests=(guest(**OTHER),), records=(record(),), **values)
    made = plan(seen, POLICY)
    of_record = [c for c in made.changes if c.record is not None]
    if questions_asked is None:
        assert of_record == []
        assert [f.class_ for f in made.findings if f.vps_id == 1] == ["ambiguous"]
        return
    (change,) = of_record
    assert (change.kind, tuple(q for q in questions(change) if q is not GuestLeftItsAddress)) == (
        Kind.UNLINK,
        questions_asked,
    )
    assert [one.order_id for one in change.confirm if isinstance(one, OrderIsOver)] == ["1"] * (
        OrderIsOver in questions_asked
    )
