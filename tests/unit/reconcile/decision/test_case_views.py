"""Where a case is placed on the table's axes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import pytest

from domain.absences import Absence
from domain.guests import GuestKey, PowerState
from domain.orders import OrderState
from reconcile.decision.cases import (
    Case,
    GuestView,
    OrderView,
    RecordView,
    World,
    guest_view,
    order_view,
    record_view,
)
from tests.unit.reconcile.worlds import KEY, NOW, POLICY, UNLINKED, absence, ago, guest, order, record, world


class Shown(NamedTuple):
    case: Case
    world: World
    view: OrderView | GuestView
    reason: str


ORDERS = [
    Shown(Case(order()), world(), OrderView.ACTIVE, "the feed says so"),
    Shown(Case(order(state=OrderState.PENDING)), world(), OrderView.PENDING, "still being set up"),
    Shown(Case(order(state=OrderState.SUSPENDED)), world(), OrderView.SUSPENDED, "unpaid"),
    Shown(Case(order(state=OrderState.ENDED)), world(), OrderView.ENDED, "cancelled"),
    Shown(Case(order(state=OrderState.UNKNOWN)), world(), OrderView.UNRECOGNISED, "a word nobody knows"),
    Shown(Case(record=record()), world(), OrderView.NONE_UNPROVEN, "not shown, and no absence was counted"),
    Shown(
        Case(record=record(order_id=None)), world(), OrderView.NONE_UNPROVEN, "without a known key nothing is proven"
    ),
    Shown(Case(record=record()), world(order_absences={"1": absence(2)}), OrderView.NONE_UNPROVEN, "two are no proof"),
    Shown(
        Case(record=record()),
        world(order_absences={"1": absence(9, minutes=9.9)}),
        OrderView.NONE_UNPROVEN,
        "often, but not long enough",
    ),
    Shown(Case(record=record()), world(order_absences={"1": absence()}), OrderView.NONE_PROVEN, "often and long"),
    Shown(
        Case(record=record()), world(order_absences={"2": absence()}), OrderView.NONE_UNPROVEN, "another order's proof"
    ),
    Shown(Case(guest=guest()), world(), OrderView.NONE_PROVEN, "a complete sweep names no order for it"),
    Shown(Case(guest=guest()), world(orders_at=None), OrderView.NONE_UNPROVEN, "there never was a complete sweep"),
]


@pytest.mark.parametrize("shown", ORDERS, ids=lambda s: s.reason)
def test_order_view(shown: Shown) -> None:
    assert order_view(shown.case, shown.world, POLICY) is shown.view, shown.reason


def _guest(**values: object) -> Case:
    return Case(guest=guest(**values), record=record(), guest_key=KEY)


GONE = Case(record=record(), guest_key=KEY)
GUESTS = [
    Shown(_guest(), world(), GuestView.RUNNING, "as listed"),
    Shown(_guest(power=PowerState.STOPPED), world(), GuestView.STOPPED, "as listed"),
    Shown(_guest(power=PowerState.ERROR), world(), GuestView.ERROR, "as listed"),
    Shown(_guest(power=PowerState.UNKNOWN), world(), GuestView.UNKNOWN, "Proxmox has no report"),
    Shown(_guest(), world(trusted=frozenset()), GuestView.UNKNOWN, "its cluster's list is not believed now"),
    Shown(_guest(lock="backup", lock_since=ago(hours=1)), world(), GuestView.TRANSITIONAL, "a lock protects"),
    Shown(_guest(lock="backup"), world(), GuestView.TRANSITIONAL, "a lock of unknown age protects"),
    Shown(_guest(lock="backup", lock_since=ago(hours=3)), world(), GuestView.RUNNING, "a leftover lock does not"),
    Shown(
        _guest(lock="suspended", lock_since=ago(minutes=1), power=PowerState.STOPPED),
        world(),
        GuestView.STOPPED,
        "hibernation is a resting state",
    ),
    Shown(GONE, world(), GuestView.NONE_UNPROVEN, "not listed, and no absence was counted"),
    Shown(GONE, world(guest_absences={KEY: absence(2)}), GuestView.NONE_UNPROVEN, "two are no proof"),
    Shown(GONE, world(guest_absences={KEY: absence()}), GuestView.NONE_PROVEN, "often and long"),
    Shown(
        GONE,
        world(guest_absences={GuestKey("second", 100): absence()}),
        GuestView.NONE_UNPROVEN,
        "the same VMID in another cluster",
    ),
    Shown(replace(GONE, replaced=True), world(), GuestView.NONE_PROVEN, "another machine stands there"),
    Shown(replace(GONE, guest_key=None), world(), GuestView.UNOBSERVABLE, "nobody said which guest it is"),
    Shown(
        GONE,
        world(clusters=frozenset({"second"}), guest_absences={KEY: absence()}),
        GuestView.UNOBSERVABLE,
        "its cluster is not configured any more: old absences prove nothing",
    ),
    Shown(
        Case(record=record(**UNLINKED | {"hypervisor": "vmware"}), guest_key=KEY),
        world(guest_absences={KEY: absence()}),
        GuestView.UNOBSERVABLE,
        "not on Proxmox",
    ),
    Shown(
        Case(record=record(hypervisor="kvm"), guest_key=KEY),
        world(),
        GuestView.NONE_UNPROVEN,
        "seen on Proxmox, which the main site calls otherwise",
    ),
    Shown(Case(order(hypervisor="kvm"), guest_key=KEY), world(), GuestView.UNOBSERVABLE, "not on Proxmox, no record"),
    Shown(Case(order(hypervisor=None), guest_key=KEY), world(), GuestView.NONE_UNPROVEN, "the feed does not say"),
]


@pytest.mark.parametrize("shown", GUESTS, ids=lambda s: s.reason)
def test_guest_view(shown: Shown) -> None:
    assert guest_view(shown.case, shown.world, POLICY) is shown.view, shown.reason


def test_record_view() -> None:
    assert record_view(Case()) is RecordView.NONE
    assert record_view(Case(record=record(**UNLINKED))) is RecordView.LIVE
    assert record_view(Case(record=record(deleted_at=NOW))) is RecordView.TOMBSTONE


@pytest.mark.parametrize(
    ("times", "over", "proven", "reason"),
    [
        (3, timedelta(minutes=10), True, "exactly N and T"),
        (2, timedelta(days=1), False, "too few"),
        (99, timedelta(minutes=10) - timedelta(microseconds=1), False, "too short"),
    ],
)
def test_a_proof_needs_both_number_and_time(times: int, over: timedelta, proven: bool, reason: str) -> None:
    counted = Absence(NOW - over, times, NOW)
    assert POLICY.proven(counted) is proven, reason
    assert not POLICY.proven(None)


def test_a_proof_is_measured_to_the_last_absence_not_to_now() -> None:
    """A source that went away proves nothing by time passing."""
    assert not POLICY.proven(Absence(ago(hours=5), 3, ago(hours=5) + timedelta(seconds=30)))
