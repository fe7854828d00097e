"""Creates, repairs, merges and the fast lane: what is planned, and what must wait."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from domain.changes import Change, ChangePlan, Create, Kind, Merge
from domain.confirmations import OrderGoesOn, OrderNamesGuest, OrderNamesOwner, PaidGuestIsMissing
from domain.guests import FingerprintState, PowerState
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision.cases import Case
from reconcile.decision.decide import decide, plan
from reconcile.decision.power import power_plan
from tests.unit.reconcile.worlds import (
    KEY,
    LOOSE,
    NOW,
    POLICY,
    UNLINKED,
    absence,
    ago,
    guest,
    order,
    questions,
    record,
    world,
)

STOPPED: dict[str, Any] = {"power": PowerState.STOPPED, "status": "stopped"}


def made(**values: Any) -> ChangePlan:
    return plan(world(**values), POLICY)


def kinds(found: ChangePlan) -> list[Kind]:
    return [c.kind for c in found.changes]


def classes(found: ChangePlan) -> list[str]:
    return [f.class_ for f in found.findings]


def test_a_converged_world_plans_and_finds_nothing() -> None:
    found = made(orders=(order(),), guests=(guest(),), records=(record(),))
    assert (found.changes, found.findings) == ((), ())


# --- creates


def test_a_missed_create_is_made_linked_and_with_the_guests_power() -> None:
    (change,) = made(orders=(order(panel_vps_id=77),), guests=(guest(**STOPPED),)).changes
    assert isinstance(change, Create)
    assert (questions(change), change.values["power_state"]) == ((OrderNamesGuest,), "stopped")
    assert change.values["link_state"] == "verified"
    assert change.order.panel_vps_id == 77


class NotYet(NamedTuple):
    order: dict[str, Any]
    guest: dict[str, Any]
    world: dict[str, Any]
    finding: str | None
    reason: str


NOT_CREATED = [
    NotYet({"first_seen_at": ago(seconds=179)}, {}, {}, None, "its create may still arrive"),
    NotYet({"first_seen_at": None}, {}, {}, None, "nobody knows since when"),
    NotYet({"effective_at": None}, {}, {}, None, "the feed gave no usable time"),
    NotYet({"user_id": None}, {}, {}, "owner-unknown", "nobody knows whose it is"),
    NotYet({"cpu": None}, {}, {}, "incomplete-order", "the plan is not known"),
    NotYet({"state": OrderState.PENDING, "state_since": ago(hours=1)}, {}, {}, None, "still being set up"),
    NotYet({"state": OrderState.UNKNOWN}, {}, {}, "unrecognised-order", "a word nobody knows"),
    NotYet({}, {"fingerprint_state": FingerprintState.UNREAD, "fingerprint": None}, {}, None, "identity comes first"),
    NotYet({}, {"fingerprint_state": FingerprintState.STALE}, {}, None, "identity is to be read anew"),
    NotYet({}, {"power": PowerState.UNKNOWN, "status": "unknown"}, {}, None, "no status is invented"),
    NotYet({}, {"lock": "create", "lock_since": ago(minutes=1)}, {}, None, "Proxmox is in the middle of something"),
    NotYet({}, {}, {"trusted": frozenset()}, None, "the list is not believed now"),
]


@pytest.mark.parametrize("case", NOT_CREATED, ids=lambda c: c.reason)
def test_no_record_is_made(case: NotYet) -> None:
    found = made(orders=(order(**case.order),), guests=(guest(**case.guest),), **case.world)
    assert found.changes == (), case.reason
    assert classes(found) == ([case.finding] if case.finding else []), case.reason


def test_an_unreadable_identity_is_created_as_unverified() -> None:
    unread = guest(fingerprint=None, fingerprint_state=FingerprintState.FORBIDDEN)
    (change,) = made(orders=(order(),), guests=(unread,)).changes
    assert change.values["link_state"] == "unverified"


def test_an_order_without_a_guest_and_a_record_is_paid_but_missing_after_its_grace() -> None:
    gone = {KEY: absence()}
    assert classes(made(orders=(order(),), guest_absences=gone)) == ["paid-but-missing"]
    assert classes(made(orders=(order(first_seen_at=ago(minutes=29)),), guest_absences=gone)) == []
    assert made(orders=(order(),), guest_absences=gone).findings[0].severity == "alarm"


# --- repairs


def test_power_and_order_are_repaired_side_by_side() -> None:
    found = made(orders=(order(state=OrderState.SUSPENDED),), guests=(guest(**STOPPED),), records=(record(),))
    written = [next(iter(c.values)) for c in found.changes]
    assert written == ["order_state", "power_state"]


class Silent(NamedTuple):
    guest: dict[str, Any]
    record: dict[str, Any]
    world: dict[str, Any]
    reason: str


NO_POWER = [
    Silent({}, {}, {"trusted": frozenset()}, "the list is not believed now"),
    Silent({"lock": "backup", "lock_since": ago(minutes=5)}, {}, {}, "an active lock"),
    Silent({"fingerprint_state": FingerprintState.STALE}, {}, {}, "its identity is to be read anew"),
    Silent({}, {"in_flight": True}, {}, "a call is on its way"),
    Silent({"previous_read_at": None}, {}, {}, "one observation of a stop"),
    Silent({"fingerprint": "smbios:other", "fingerprint_seen": 1}, {}, {}, "another machine"),
]


@pytest.mark.parametrize("case", NO_POWER, ids=lambda c: c.reason)
def test_no_power_is_written(case: Silent) -> None:
    found = made(
        orders=(order(),), guests=(guest(**STOPPED | case.guest),), records=(record(**case.record),), **case.world
    )
    assert all("power_state" not in c.values for c in found.changes), case.reason


def test_an_ended_orders_locked_guest_keeps_its_power() -> None:
    locked = guest(**STOPPED, lock="backup", lock_since=ago(minutes=1))
    found = made(orders=(order(state=OrderState.ENDED),), guests=(locked,), records=(record(),))
    assert all("power_state" not in c.values for c in found.changes)


def test_a_paid_guest_that_is_proven_absent_is_shown_after_its_grace_and_a_look() -> None:
    seen: dict[str, Any] = {"orders": (order(),), "records": (record(),)}
    early = made(**seen, guest_absences={KEY: absence(minutes=29)})
    assert (early.changes, classes(early)) == ((), ["paid-but-missing"])
    (change,) = made(**seen, guest_absences={KEY: absence(minutes=31)}).changes
    assert change.values["missing_since"] == ago(minutes=31)
    assert questions(change) == (PaidGuestIsMissing, OrderGoesOn)
    again: dict[str, Any] = {"orders": (order(),), "records": (record(missing_since=ago(minutes=31)),)}
    assert made(**again, guest_absences={KEY: absence(minutes=31)}).changes == ()


def test_a_guest_speaks_for_a_record_whose_order_is_not_proven() -> None:
    found = made(guests=(guest(**STOPPED),), records=(record(order_id=None),))
    assert [c.values["power_state"] for c in found.changes] == ["stopped"]


@pytest.mark.parametrize("other", ["smbios:b", None], ids=["another fingerprint", "none"])
def test_no_power_is_taken_from_a_guest_that_is_not_yet_the_records_own(other: str | None) -> None:
    """The matching leaves them in doubt, or has the link written first; the power waits for that in any case."""
    stranger = guest(fingerprint=other, **STOPPED)
    seen = world(orders=(order(),), guests=(stranger,), records=(record(),))
    found = decide(Case(seen.orders[0], stranger, seen.records[0], KEY), seen, POLICY)
    assert Kind.STATUS not in [c.kind for c in found.changes]


def test_an_owner_change_is_alarmed_held_and_confirmed() -> None:
    once = made(orders=(order(user_id=6, owner_since=NOW),), guests=(guest(),), records=(record(),))
    assert (once.changes, classes(once)) == ((), ["ownership"])
    (change,) = made(
        orders=(order(user_id=6, owner_since=ago(days=1)),), guests=(guest(),), records=(record(),)
    ).changes
    assert (change.kind, change.values["user_id"], questions(change)) == (Kind.OWNER, 6, (OrderNamesOwner,))
    unmapped = made(orders=(order(user_id=None),), guests=(guest(),), records=(record(),))
    assert (unmapped.changes, classes(unmapped)) == ((), ["owner-unknown"])


# --- merges and replaced guests


def survivor_of(found: ChangePlan) -> tuple[int, int]:
    (merge,) = [c for c in found.changes if c.kind is Kind.MERGE]
    assert isinstance(merge, Merge)
    return merge.record.id, merge.survivor.id


class Twins(NamedTuple):
    order: dict[str, Any]
    first: dict[str, Any]
    second: dict[str, Any]
    merged: tuple[int, int]
    reason: str


TWINS = [
    Twins({"panel_vps_id": 2}, {}, LOOSE, (1, 2), "the feed's id survives"),
    Twins({"panel_vps_id": 1}, {}, LOOSE, (2, 1), "the feed's id survives, the older one too"),
    Twins({}, {"last_update_at": ago(days=1)}, LOOSE, (2, 1), "else the id that updates used"),
    Twins({}, {}, LOOSE, (1, 2), "else the one that was answered last"),
]


@pytest.mark.parametrize("case", TWINS, ids=lambda c: c.reason)
def test_survivor(case: Twins) -> None:
    found = made(
        orders=(order(**case.order),),
        guests=(guest(),),
        records=(record(**case.first), record(id=2, **case.second | {"created_at": ago(days=20, seconds=-30)})),
    )
    assert survivor_of(found) == case.merged, case.reason
    assert kinds(found) == [Kind.MERGE], "everything else waits for the next run"


@pytest.mark.parametrize("feed", ["orders", "panel-api"])
def test_a_merge_is_of_the_feed_that_showed_its_order(feed: str) -> None:
    records = (record(), record(id=2, **LOOSE | {"created_at": ago(days=20, seconds=-30)}))
    (merge,) = made(orders=(order(),), guests=(guest(),), records=records, feed=feed).changes
    assert (merge.kind, merge.source) == (Kind.MERGE, feed)


def test_a_merge_waits_for_calls_to_either_record() -> None:
    for first, second in ((True, False), (False, True)):
        found = made(
            orders=(order(panel_vps_id=2),),
            guests=(guest(),),
            records=(record(in_flight=first), record(id=2, **LOOSE, in_flight=second)),
        )
        assert found.changes == ()


def test_a_replaced_guest_is_given_up_when_a_going_order_names_it() -> None:
    seen = {
        "orders": (order(state=OrderState.ENDED), order(order_id="2", user_id=6, name="new")),
        "guests": (guest(fingerprint="smbios:other"),),
        "records": (record(),),
    }
    assert kinds(made(**seen)) == [Kind.UNLINK], "first the record gives it up, then delete and create"


# --- the fast lane


def fast(values: dict[str, Any] | None = None, kept: dict[str, Any] | None = None, **seen: Any) -> tuple[Change, ...]:
    return power_plan([(record(**kept or {}), guest(**STOPPED | (values or {})))], world(**seen), POLICY).changes


def test_the_fast_lane_writes_power_and_node_only() -> None:
    changes = fast({"node": "pve2"}, {"order_state": OrderState.SUSPENDED})
    assert [c.kind for c in changes] == [Kind.LINK, Kind.STATUS]
    assert not {"order_state", "user_id", "status", "deleted_at"} & {k for c in changes for k in c.values}


@pytest.mark.parametrize(
    ("values", "seen", "reason"),
    [
        ({"power": PowerState.UNKNOWN}, {}, "no report"),
        ({"lock": "migrate", "lock_since": ago(minutes=1)}, {}, "an active lock"),
        ({}, {"trusted": frozenset()}, "the list is not believed now"),
        ({"previous_read_at": None}, {}, "one observation of a stop"),
    ],
)
def test_the_fast_lane_is_silent(values: dict[str, Any], seen: dict[str, Any], reason: str) -> None:
    assert fast(values, **seen) == (), reason


def test_a_pushed_link_is_verified_from_the_guests_configuration() -> None:
    found = made(orders=(order(),), guests=(guest(),), records=(record(link_state=LinkState.PUSHED, fingerprint=None),))
    assert [c.values["link_state"] for c in found.changes] == ["verified"]


PUSHED: dict[str, Any] = {"link_state": LinkState.PUSHED, "fingerprint": None, "order_state": OrderState.ENDED}
"""Its create named a guest, and the order ended before anybody looked who that guest was."""


def test_an_ended_order_gets_no_identity_nor_power_by_the_address_alone() -> None:
    seen = guest(**STOPPED, fingerprint="smbios:perhaps-the-next-customers")
    found = made(orders=(order(state=OrderState.ENDED),), guests=(seen,), records=(record(**PUSHED),))
    assert found.changes == ()
    assert classes(found) == ["ended-but-running"]


def test_an_address_never_seen_as_ones_own_is_given_up_when_a_going_order_names_it() -> None:
    seen = {
        "orders": (order(state=OrderState.ENDED), order(order_id="2", user_id=6, name="new")),
        "guests": (guest(fingerprint="smbios:new"),),
        "records": (record(**PUSHED),),
    }
    (change,) = made(**seen).changes
    assert (change.kind, change.record and change.record.id) == (Kind.UNLINK, 1)


@pytest.mark.parametrize("state", [OrderState.ACTIVE, OrderState.ENDED])
@pytest.mark.parametrize("link", [UNLINKED, {"link_state": LinkState.PUSHED, "fingerprint": None}])
def test_a_guest_that_a_later_order_names_too_becomes_nobodys_by_its_address(
    state: OrderState, link: dict[str, Any]
) -> None:
    later = order(order_id="2", user_id=6, name="new", state=state, created_at=ago(days=1))
    found = made(orders=(order(), later), guests=(guest(),), records=(record(**link),))
    assert found.changes == ()
    assert "ambiguous" in classes(found)


def test_a_guest_that_an_earlier_order_had_is_the_later_ones() -> None:
    earlier = order(order_id="0", user_id=6, name="old", state=OrderState.ENDED, created_at=ago(days=60))
    pushed = record(link_state=LinkState.PUSHED, fingerprint=None)
    found = made(orders=(earlier, order()), guests=(guest(),), records=(pushed,))
    assert [c.values["fingerprint"] for c in found.changes] == ["smbios:a"]
