"""What belongs together, what is held, and what must never be joined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.guests import FingerprintState
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision.cases import World
from tests.unit.reconcile.decision.matching.matched import cases, doubts, pairs
from tests.unit.reconcile.worlds import LOOSE, NOW, absence, ago, guest, order, record, world

YOUNG: dict[str, Any] = LOOSE | {"id": 2, "created_at": ago(seconds=30)}


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


def test_a_young_rival_keeps_a_name_from_being_unique() -> None:
    seen = world(orders=(order(cluster=None, vmid=None),), records=(record(**LOOSE), record(**YOUNG)))
    assert [c.record for c in cases(seen) if c.order] == [None]
    assert len(doubts(seen)) == 1


def test_an_equal_name_with_another_plan_is_held() -> None:
    seen = world(orders=(order(cluster=None, vmid=None, cpu=4),), records=(record(**LOOSE),))
    assert [c.record for c in cases(seen) if c.order] == [None]
    assert len(doubts(seen)) == 1


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


def test_another_order_of_that_name_with_a_plan_and_a_record_of_its_own_keeps_no_twin() -> None:
    seen = twin()
    other = order(order_id="9", cpu=16, cluster=None, vmid=None)
    own = record(id=9, order_id="9", cpu=16, vmid=109, fingerprint="smbios:nine")
    assert merged(replace(seen, orders=(*seen.orders, other), records=(*seen.records, own)))
    assert not merged(replace(seen, orders=(*seen.orders, other)))


# --- orders and records that meet by the machine

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
