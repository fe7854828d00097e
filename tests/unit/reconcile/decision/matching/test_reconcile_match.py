"""What belongs together, what is held, and what must never be joined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.guests import FingerprintState, GuestKey, PowerState
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision.cases import Case, World
from reconcile.decision.matching.match import match
from tests.unit.reconcile.worlds import KEY, NOW, POLICY, UNLINKED, absence, ago, guest, order, record, world

LOOSE: dict[str, Any] = UNLINKED | {"order_id": None, "order_linked_once": False}
YOUNG: dict[str, Any] = LOOSE | {"id": 2, "created_at": ago(seconds=30)}


def cases(seen: World) -> list[Case]:
    return match(seen, POLICY)


def pairs(seen: World) -> set[tuple[str | None, int | None]]:
    """(order id, record id) of every case that is not in doubt."""
    return {
        (c.order.order_id if c.order else None, c.record.id if c.record else None)
        for c in cases(seen)
        if c.doubt is None and (c.order or c.record)
    }


def doubts(seen: World) -> list[str]:
    return [c.doubt for c in cases(seen) if c.doubt is not None]


def test_keys_join_order_guest_and_record() -> None:
    (case,) = cases(world(orders=(order(),), guests=(guest(),), records=(record(),)))
    assert (case.order, case.guest, case.record, case.doubt) == (order(), guest(), record(), None)


def test_everything_without_a_partner_is_a_case_of_its_own() -> None:
    seen = world(
        orders=(order(order_id="9", vmid=None, cluster=None, name="other"),),
        guests=(guest(vmid=500, fingerprint="smbios:z"),),
        records=(record(),),
    )
    found = cases(seen)
    assert sorted((c.order is not None, c.guest is not None, c.record is not None) for c in found) == [
        (False, False, True),
        (False, True, False),
        (True, False, False),
    ]


def test_the_id_that_the_main_site_names_comes_first() -> None:
    seen = world(orders=(order(panel_vps_id=2),), guests=(guest(),), records=(record(), record(id=2, **LOOSE)))
    (case,) = cases(seen)
    assert case.record is not None
    assert case.duplicate is not None
    assert (case.record.id, case.duplicate.id, case.doubt) == (2, 1, None)


def test_a_merged_id_stands_for_its_survivor() -> None:
    merged = record(id=2, deleted_at=NOW, merged_into=1, order_id=None)
    assert pairs(world(orders=(order(panel_vps_id=2),), guests=(guest(),), records=(record(), merged))) == {("1", 1)}


def test_the_same_vmid_in_another_cluster_is_another_guest() -> None:
    found = cases(world(records=(record(),), guests=(guest(cluster="second", fingerprint="smbios:z"),)))
    assert [c.guest for c in found if c.record is not None] == [None]


def test_a_name_joins_only_what_is_unique_on_both_sides() -> None:
    loose = record(**LOOSE)
    assert pairs(world(orders=(order(),), records=(loose,))) == {("1", 1)}
    two_records = world(orders=(order(),), records=(loose, record(id=2, **LOOSE)))
    assert pairs(two_records) == set()
    two_orders = world(orders=(order(), order(order_id="2", vmid=101)), records=(loose,))
    assert pairs(two_orders) == set()


def test_equal_names_are_told_apart_by_plan() -> None:
    seen = world(
        orders=(order(vmid=None), order(order_id="2", vmid=None, cpu=8)),
        records=(record(**LOOSE), record(id=2, **LOOSE | {"cpu": 8})),
    )
    assert pairs(seen) == {("1", 1), ("2", 2)}


def test_equal_names_and_plans_are_told_apart_by_time_if_no_rival_is_near() -> None:
    far = world(
        orders=(order(vmid=None, created_at=ago(hours=5)), order(order_id="2", vmid=None, created_at=ago(hours=9))),
        records=(
            record(**LOOSE | {"created_at": ago(hours=9)}),
            record(id=2, **LOOSE | {"created_at": ago(hours=5)}),
        ),
    )
    assert pairs(far) == {("1", 2), ("2", 1)}
    near = world(
        orders=(order(vmid=None, created_at=ago(minutes=50)), order(order_id="2", vmid=None, created_at=ago(hours=1))),
        records=(
            record(**LOOSE | {"created_at": ago(minutes=51)}),
            record(id=2, **LOOSE | {"created_at": ago(minutes=59)}),
        ),
    )
    assert pairs(near) == set()
    assert len(doubts(near)) == 4, "orders and records alike are held"


def test_a_young_record_is_not_joined_by_name() -> None:
    young = record(**LOOSE | {"created_at": ago(seconds=119)})
    assert ("1", 1) not in pairs(world(orders=(order(),), records=(young,)))
    assert doubts(world(orders=(order(),), records=(young,))), "nor is its order called without a record"


def test_a_record_with_a_call_in_flight_is_not_joined_by_name() -> None:
    assert ("1", 1) not in pairs(world(orders=(order(),), records=(record(**LOOSE, in_flight=True),)))


def test_no_name_bridges_two_guests() -> None:
    seen = world(orders=(order(vmid=555),), records=(record(order_id=None),), guests=(guest(),))
    assert ("1", 1) not in pairs(seen)


def test_another_customers_equal_name_is_no_partner() -> None:
    assert ("1", 1) not in pairs(world(orders=(order(user_id=6, vmid=None),), records=(record(**LOOSE),)))


def test_two_orders_that_name_one_record_are_held() -> None:
    seen = world(orders=(order(panel_vps_id=1), order(order_id="2", panel_vps_id=1)), records=(record(),))
    assert pairs(seen) == set()
    ended = world(
        orders=(order(panel_vps_id=1, state=OrderState.ENDED), order(order_id="2", panel_vps_id=1)),
        records=(record(),),
    )
    assert ("2", 1) in pairs(ended), "an ended order gives way"


def test_an_order_takes_another_orders_record_only_once_that_one_is_proven_gone() -> None:
    asks = order(order_id="2", panel_vps_id=1)
    assert pairs(world(orders=(asks,), records=(record(),))) == set()
    assert pairs(world(orders=(asks,), records=(record(),), order_absences={"1": absence(1)})) == set()
    assert pairs(world(orders=(asks,), records=(record(),), order_absences={"1": absence()})) == {("2", 1)}


# --- one machine with two records


def twin(**values: Any) -> World:
    """A linked record, and a younger one of the same customer, name and plan that nobody ever used."""
    second = record(id=2, **LOOSE | {"created_at": ago(days=20, seconds=-9)} | values)
    return world(orders=(order(),), guests=(guest(),), records=(record(), second))


def merged(seen: World) -> bool:
    return any(c.duplicate is not None and c.doubt is None for c in cases(seen))


def test_a_lost_answers_record_is_a_twin() -> None:
    assert merged(twin())


def test_a_record_whose_id_was_used_is_no_twin() -> None:
    assert not merged(twin(last_update_at=ago(days=19)))


def test_a_record_of_another_hour_is_no_twin() -> None:
    assert not merged(twin(created_at=ago(days=19)))


def test_a_young_record_is_no_twin_since_its_order_may_be_late() -> None:
    first = record(created_at=ago(minutes=30))
    second = record(id=2, **LOOSE | {"created_at": ago(minutes=29)})
    seen = world(orders=(order(),), guests=(guest(),), records=(first, second))
    assert not merged(seen)


def test_a_record_is_no_twin_while_a_guest_could_be_its_own() -> None:
    seen = twin()
    own = guest(vmid=101, fingerprint="smbios:b")
    assert not merged(world(orders=seen.orders, records=seen.records, guests=(*seen.guests, own)))
    other = guest(vmid=102, fingerprint="smbios:c", name="router", memory_mb=512, first_seen_at=ago(days=300))
    assert merged(world(orders=seen.orders, records=seen.records, guests=(*seen.guests, other)))


def test_a_record_is_no_twin_while_a_cluster_was_not_read() -> None:
    seen = twin()
    blind = world(orders=seen.orders, records=seen.records, guests=seen.guests, clusters=frozenset({"main", "second"}))
    assert not merged(blind)
    assert not merged(world(orders=seen.orders, records=seen.records, guests=seen.guests, orders_at=None))


def test_two_records_of_different_customers_are_never_merged() -> None:
    seen = world(
        orders=(order(panel_vps_id=2),), guests=(guest(),), records=(record(), record(id=2, **LOOSE | {"user_id": 6}))
    )
    assert doubts(seen) == ["two records of one order have different owners"]


# --- guests that are not what they were

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


def test_a_young_rival_keeps_a_name_from_being_unique() -> None:
    seen = world(orders=(order(cluster=None, vmid=None),), records=(record(**LOOSE), record(**YOUNG)))
    assert [c.record for c in cases(seen) if c.order] == [None]
    assert len(doubts(seen)) == 1


def test_an_equal_name_with_another_plan_is_held() -> None:
    seen = world(orders=(order(cluster=None, vmid=None, cpu=4),), records=(record(**LOOSE),))
    assert [c.record for c in cases(seen) if c.order] == [None]
    assert len(doubts(seen)) == 1


def test_another_order_of_that_name_with_a_plan_and_a_record_of_its_own_keeps_no_twin() -> None:
    seen = twin()
    other = order(order_id="9", cpu=16, cluster=None, vmid=None)
    own = record(id=9, order_id="9", cpu=16, vmid=109, fingerprint="smbios:nine")
    assert merged(replace(seen, orders=(*seen.orders, other), records=(*seen.records, own)))
    assert not merged(replace(seen, orders=(*seen.orders, other)))


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


HELD: dict[str, Any] = {"order_id": None, "order_linked_once": False, "name": "x"}


def test_an_order_and_a_record_meet_by_the_machine() -> None:
    """No id and another name: but the record is verified to be the guest that the order names, and nobody else does."""
    seen = world(orders=(order(order_id="2", name="new"),), guests=(guest(),), records=(record(**HELD),))
    assert (pairs(seen), doubts(seen)) == ({("2", 1)}, [])


@pytest.mark.parametrize(
    ("of_order", "of_record", "of_guest"),
    [
        pytest.param({}, {"link_state": LinkState.PUSHED, "fingerprint": None}, {}, id="never looked at"),
        pytest.param({}, {"user_id": 6}, {}, id="another customer's"),
        pytest.param({"user_id": None}, {}, {}, id="nobody knows whose"),
        pytest.param({}, {"created_at": ago(seconds=30)}, {}, id="too young"),
        pytest.param({}, {}, {"fingerprint": "smbios:other"}, id="another machine by now"),
        pytest.param({}, {}, {"fingerprint_state": FingerprintState.STALE}, id="to be read anew"),
        pytest.param({"state": OrderState.ENDED}, {}, {}, id="an end"),
        pytest.param({"panel_vps_id": 7}, {}, {}, id="its own record was deleted"),
    ],
)
def test_by_the_machine_meet_only_a_going_order_and_its_customer_s_verified_record(
    of_order: dict[str, Any], of_record: dict[str, Any], of_guest: dict[str, Any]
) -> None:
    seen = world(
        orders=(order(**{"order_id": "2", "name": "new"} | of_order),),
        guests=(guest(**of_guest),),
        records=(record(**HELD | of_record), record(id=7, order_id=None, vmid=777, deleted_at=ago(days=1))),
    )
    assert [c.order for c in cases(seen) if c.record and c.record.id == 1] == [None]


def test_a_machine_that_two_orders_name_joins_neither() -> None:
    orders = (order(order_id="2", name="new"), order(order_id="3", name="newer"))
    seen = world(orders=orders, guests=(guest(),), records=(record(**HELD),))
    assert ("2", 1) not in pairs(seen)
    assert ("3", 1) not in pairs(seen)


def test_a_guest_that_another_record_holds_is_not_taken() -> None:
    seen = world(
        orders=(order(order_id="2", name="new"),),
        guests=(guest(),),
        records=(record(order_id=None, name="x", user_id=6),),
    )
    assert [c.doubt for c in cases(seen) if c.order] == ["guest main/100 is linked to VPS 1"]


@pytest.mark.parametrize("tombstone", [True, False])
def test_an_ended_order_without_a_record_does_not_mind_who_has_its_vmid_now(*, tombstone: bool) -> None:
    ended = order(order_id="1", state=OrderState.ENDED, panel_vps_id=2)
    dead = (record(id=2, order_id="1", fingerprint="smbios:gone", deleted_at=ago(days=1)),) if tombstone else ()
    seen = world(
        orders=(ended, order(order_id="3", name="new")), guests=(guest(),), records=(record(order_id="3"), *dead)
    )
    assert doubts(seen) == []
    assert [c.guest for c in cases(seen) if c.order is ended] == [None]


def test_a_guest_that_two_going_orders_name_is_not_taken() -> None:
    seen = world(orders=(order(), order(order_id="2", name="new")), guests=(guest(),))
    assert doubts(seen) == [
        "orders 1 and 2 name guest main/100: let one name another",
        "orders 2 and 1 name guest main/100: let one name another",
        "order 1 and order 2 name it, and it is no record's guest",
    ]


def test_templates_are_ignored() -> None:
    assert cases(world(guests=(guest(template=True),))) == []


def test_a_tombstone_belongs_to_its_order() -> None:
    (case, _) = sorted(
        cases(world(orders=(order(),), guests=(guest(vmid=9),), records=(record(deleted_at=ago(days=1)),))),
        key=lambda c: c.order is None,
    )
    assert case.record is not None
    assert not case.record.live


def test_an_ended_orders_unlinked_record_does_not_take_the_next_customers_guest() -> None:
    seen = world(
        orders=(order(state=OrderState.ENDED), order(order_id="2", user_id=6, name="new")),
        guests=(guest(**OTHER),),
        records=(record(**UNLINKED | {"guest_linked_once": True}),),
    )
    (case,) = [c for c in cases(seen) if c.record]
    assert (case.guest, case.guest_key, case.doubt) == (None, None, None)
