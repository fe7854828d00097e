"""A record that is linked with one order while another one names it: whose end is its end, and who is asked before."""

from __future__ import annotations

from typing import Any

import pytest

from domain.changes import Kind
from domain.confirmations import GuestIsGone, OrderIsOver, OrderNamesSurvivor
from domain.orders import OrderState
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from tests.unit.reconcile.decision.deletes.proven_ends import ENDED, asked
from tests.unit.reconcile.decision.matching.matched import doubts, pairs
from tests.unit.reconcile.worlds import (
    KEY,
    LOOSE,
    POLICY,
    absence,
    guest,
    order,
    questions,
    record,
    world,
)

OLD = order(**ENDED | {"order_id": "old", "panel_vps_id": 1})
NEXT = order(order_id="next", panel_vps_id=1, cpu=8)


def missed(*orders: Any, hours: float = 0, **values: Any) -> World:
    """VPS 1 belongs to order 1, which complete sweeps leave out, and other orders name VPS 1."""
    kept = {"records": (record(),), "guest_absences": {KEY: absence(hours=30)}}
    return world(**{"orders": orders, "order_absences": {"1": absence(hours=hours)}} | kept | values)


def test_an_old_order_s_end_is_not_the_end_of_a_record_of_another_order() -> None:
    made = plan(missed(OLD), POLICY)
    assert made.changes == ()
    assert [(f.class_, f.reason) for f in made.findings] == [
        ("delete-held", "order 1 vanished less than the orphan grace ago")
    ]


def test_after_the_grace_both_orders_are_asked_whether_they_are_over() -> None:
    (change,) = plan(missed(OLD, hours=30), POLICY).changes
    assert (change.kind, questions(change)) == (Kind.ORPHAN, (GuestIsGone, OrderIsOver, OrderIsOver))
    assert [one.order_id for one in change.confirm if isinstance(one, OrderIsOver)] == ["1", "old"]


def test_so_are_both_where_an_operator_must_allow_it() -> None:
    unseen = (record(guest_linked_once=False),)
    (change,) = asked(plan(missed(OLD, hours=30, records=unseen), POLICY))
    assert [one.order_id for one in change.confirm if isinstance(one, OrderIsOver)] == ["1", "old"]


@pytest.mark.parametrize("hours", [0, 30])
def test_its_machine_is_not_called_an_ended_order_s_while_it_is_there(hours: float) -> None:
    made = plan(missed(OLD, hours=hours, guests=(guest(),), guest_absences={}), POLICY)
    assert made.changes == (), "neither the link with the old order nor its end is written"
    assert [f.class_ for f in made.findings] == ["guest-without-order"]


def test_an_order_that_goes_on_takes_it_once_its_own_order_says_by_itself_that_it_is_over() -> None:
    """Nothing else of the new order is taken before."""
    (change,) = plan(missed(NEXT, guests=(guest(),), guest_absences={}), POLICY).changes
    assert (change.kind, change.values) == (Kind.LINK, {"order_id": "next", "order_linked_once": True})
    assert change.confirm == (OrderIsOver("1"),)


@pytest.mark.parametrize("sweeps", [0, 2, 3])
def test_of_two_others_the_one_that_goes_on_takes_it_only_once_its_own_is_proven_gone(sweeps: int) -> None:
    seen = missed(OLD, NEXT, order_absences={"1": absence(sweeps)} if sweeps else {})
    assert (("next", 1) in pairs(seen)) is (sweeps == 3)
    assert bool(doubts(seen)) is (sweeps < 3)


def test_a_merge_asks_the_other_order_of_the_surviving_record_too() -> None:
    seen = missed(NEXT, records=(record(), record(**LOOSE | {"id": 2, "order_id": "next"})))
    (change,) = plan(seen, POLICY).changes
    assert questions(change) == (OrderNamesSurvivor, OrderIsOver)
    assert OrderIsOver("1") in change.confirm


def test_the_state_of_an_order_that_names_it_is_not_taken_before_the_link() -> None:
    suspended = order(order_id="next", panel_vps_id=1, state=OrderState.SUSPENDED, status="suspended")
    seen = missed(suspended, guests=(guest(),), guest_absences={})
    assert [c.kind for c in plan(seen, POLICY).changes] == [Kind.LINK]
