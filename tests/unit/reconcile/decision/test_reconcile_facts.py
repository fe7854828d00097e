"""Freshness, graces and the number of observations, fact by fact."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from domain.guests import FingerprintState, PowerState
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision import fact_updates
from tests.unit.reconcile.worlds import NOW, POLICY, UNLINKED, ago, guest, order, record, world

STOPPED: dict[str, Any] = {"power": PowerState.STOPPED, "status": "stopped"}
PUSHED: dict[str, Any] = {"power_source": "sync"}


class Power(NamedTuple):
    guest: dict[str, Any]
    record: dict[str, Any]
    written: str | None
    reason: str


POWER = [
    Power({}, {}, None, "they agree"),
    Power(STOPPED, {}, "stopped", "two reads after the last change"),
    Power(STOPPED | {"previous_read_at": None}, {}, None, "running -> stopped needs two observations"),
    Power(
        STOPPED,
        {"power_changed_at": ago(seconds=60)},
        None,
        "one of the two began before the last change",
    ),
    Power(STOPPED, {"link_changed_at": ago(seconds=60)}, None, "one of the two was of the guest before"),
    Power({"previous_read_at": None}, {"power_state": PowerState.STOPPED}, "running", "stopped -> running needs one"),
    Power({}, {"power_state": PowerState.STOPPED, "power_changed_at": ago(seconds=9)}, None, "read before the change"),
    Power({}, {"power_state": PowerState.STOPPED, "power_changed_at": ago(seconds=10)}, None, "read at the change"),
    Power(
        {},
        PUSHED | {"power_state": PowerState.STOPPED, "power_changed_at": ago(seconds=29)},
        None,
        "a pushed state has a grace",
    ),
    Power(
        {},
        PUSHED | {"power_state": PowerState.STOPPED, "power_changed_at": ago(seconds=31)},
        "running",
        "the grace is over",
    ),
    Power(
        {},
        {"power_source": "proxmox", "power_state": PowerState.STOPPED, "power_changed_at": ago(seconds=15)},
        "running",
        "an observed one has none",
    ),
    Power({"power": PowerState.UNKNOWN, "status": "unknown"}, {}, None, "unknown overwrites nothing"),
    Power({"power": PowerState.ERROR, "status": "io-error"}, {}, "error", "as Proxmox says"),
    Power({}, {"power_state": PowerState.UNKNOWN}, "running", "first seen"),
    Power({}, {"missing_since": ago(hours=1)}, "running", "it was called missing and is there"),
    Power({"read_at": None}, {"power_state": PowerState.STOPPED}, None, "a read of no known time is not fresh"),
]


@pytest.mark.parametrize("case", POWER, ids=lambda c: c.reason)
def test_power(case: Power) -> None:
    update = fact_updates.power_update(guest(**case.guest), record(**{"power_source": "proxmox"} | case.record), POLICY)
    assert (update.values["power_state"] if update else None) == case.written, case.reason


def test_power_takes_back_that_it_was_missing_and_says_what_was_read() -> None:
    update = fact_updates.power_update(guest(), record(missing_since=ago(hours=1)), POLICY)
    assert update is not None
    assert (update.values["missing_since"], update.values["power_changed_at"]) == (None, ago(seconds=10))
    reads = [ago(seconds=130).isoformat(), ago(seconds=10).isoformat()]
    assert update.evidence == {"reads": reads, "identity": "smbios:a", "identity_read_at": None}
    assert update.flip is None


def test_hibernation_is_stopped_with_a_detail() -> None:
    update = fact_updates.power_update(guest(**STOPPED, lock="suspended"), record(), POLICY)
    assert update is not None
    assert (update.values["power_state"], update.values["power_detail"]) == ("stopped", "hibernated")
    assert update.flip == "to stopped"


class State(NamedTuple):
    order: dict[str, Any]
    record: dict[str, Any]
    written: str | None
    reason: str


SUSPENDED: dict[str, Any] = {"state": OrderState.SUSPENDED, "status": "suspended"}
STATES = [
    State({}, {}, None, "they agree"),
    State(SUSPENDED, {}, "suspended", "read after the last change"),
    State(SUSPENDED, {"order_changed_at": ago(seconds=4)}, None, "read before it"),
    State(SUSPENDED, {"order_changed_at": ago(seconds=5)}, None, "read at it"),
    State(SUSPENDED | {"effective_at": None}, {}, None, "the feed gave no usable time"),
    State({"state": OrderState.UNKNOWN, "status": "refunded"}, {}, None, "a word nobody knows"),
]


@pytest.mark.parametrize("case", STATES, ids=lambda c: c.reason)
def test_order_state(case: State) -> None:
    update = fact_updates.order_state_update(order(**case.order), record(**case.record), world())
    assert (update.values["order_state"] if update else None) == case.written, case.reason


class Plan(NamedTuple):
    order: dict[str, Any]
    record: dict[str, Any]
    written: dict[str, Any]
    names: bool
    reason: str


PLANS = [
    Plan({}, {}, {}, names=True, reason="they agree"),
    Plan(
        {"cpu": 8, "ip_address": "192.0.2.1"},
        {},
        {"cpu": 8, "ip_address": "192.0.2.1"},
        names=True,
        reason="sold otherwise",
    ),
    Plan(
        {"cpu": None, "ram_mb": None, "os": None, "name": None},
        {},
        {},
        names=True,
        reason="what is not said is no drift",
    ),
    Plan(
        {"ip6_address": "2001:db8::1"},
        {"ip6_address": "2001:db8::2"},
        {"ip6_address": "2001:db8::1"},
        names=False,
        reason="another IPv6 address",
    ),
    Plan({"ip6_address": None}, {"ip6_address": "2001:db8::2"}, {}, names=True, reason="nobody says that it is gone"),
    Plan({"name": "renamed"}, {}, {"name": "renamed"}, names=True, reason="orders know names"),
    Plan({"name": "server-1"}, {}, {}, names=False, reason="this feed makes names up"),
    Plan({"cpu": 8}, {"plan_changed_at": ago(seconds=1)}, {}, names=True, reason="read before the last change"),
    Plan({"cpu": 8, "effective_at": None}, {}, {}, names=True, reason="no usable time"),
]


@pytest.mark.parametrize("case", PLANS, ids=lambda c: c.reason)
def test_plan(case: Plan) -> None:
    seen = world(names_are_authoritative=case.names)
    update = fact_updates.size_update(order(**case.order), record(**case.record), seen)
    written = {k: v for k, v in update.values.items() if k != "plan_changed_at"} if update else {}
    assert written == case.written, case.reason


class Owner(NamedTuple):
    order: dict[str, Any]
    world: dict[str, Any]
    record: dict[str, Any]
    written: bool
    reason: str


TWICE: dict[str, Any] = {"user_id": 6, "owner_since": ago(seconds=125)}
OWNERS = [
    Owner(TWICE, {}, {}, written=True, reason="two complete sweeps agree"),
    Owner(TWICE | {"user_id": 5}, {}, {}, written=False, reason="the same owner"),
    Owner(TWICE | {"user_id": None}, {}, {}, written=False, reason="nobody knows who that is"),
    Owner(TWICE | {"mapped_at": ago(seconds=60)}, {}, {}, written=False, reason="the map is newer than that"),
    Owner(TWICE | {"mapped_at": None}, {}, {}, written=False, reason="nobody knows since when the map says so"),
    Owner(TWICE | {"owner_since": ago(seconds=5)}, {}, {}, written=False, reason="only the last sweep says so"),
    Owner(TWICE, {"previous_orders_at": None}, {}, written=False, reason="there was only one sweep"),
    Owner(TWICE, {"orders_at": ago(seconds=125)}, {}, written=False, reason="this read is not complete"),
    Owner(TWICE, {}, {"owner_changed_at": ago(seconds=60)}, written=False, reason="the owner changed between the two"),
    Owner(TWICE | {"effective_at": ago(seconds=200)}, {}, {}, written=False, reason="this sweep did not show it"),
    Owner(TWICE | {"effective_at": None}, {}, {}, written=False, reason="no usable time"),
]


@pytest.mark.parametrize("case", OWNERS, ids=lambda c: c.reason)
def test_owner(case: Owner) -> None:
    update = fact_updates.owner_update(order(**case.order), record(**case.record), world(**case.world))
    assert (update is not None) is case.written, case.reason


class Link(NamedTuple):
    guest: dict[str, Any]
    record: dict[str, Any]
    written: dict[str, Any]
    reason: str


LINKS = [
    Link({}, {}, {}, "they agree"),
    Link({"node": "pve2"}, {}, {"node": "pve2"}, "it migrated"),
    Link({"node": "pve2"}, {"link_changed_at": NOW}, {}, "read before the last link"),
    Link(
        {},
        UNLINKED,
        {
            "cluster": "main",
            "vmid": 100,
            "node": "pve1",
            "guest_type": "qemu",
            "link_state": "verified",
            "fingerprint": "smbios:a",
        },
        "a first link, with its identity",
    ),
    Link(
        {"fingerprint_state": FingerprintState.UNREAD, "fingerprint": None},
        UNLINKED,
        {},
        "not linked before its identity was looked at",
    ),
    Link(
        {"fingerprint_state": FingerprintState.FORBIDDEN, "fingerprint": None},
        {"link_state": LinkState.PUSHED, "fingerprint": None},
        {"link_state": "unverified"},
        "its identity cannot be read",
    ),
    Link(
        {"fingerprint": None},
        {"link_state": LinkState.PUSHED, "fingerprint": None},
        {"link_state": "unverified"},
        "its configuration was read, and has nothing to know it by",
    ),
    Link(
        {"vmid": 101, "fingerprint": None},
        {},
        {"vmid": 101, "link_state": "unverified", "fingerprint": None},
        "made anew with nothing to know it by: the old identity is not its own",
    ),
    Link(
        {},
        {"link_state": LinkState.PUSHED, "fingerprint": None},
        {"link_state": "verified", "fingerprint": "smbios:a"},
        "a pushed link is verified",
    ),
    Link({"node": "pve2", "fingerprint_state": FingerprintState.STALE}, {}, {}, "its signature changed: not before"),
]


@pytest.mark.parametrize("case", LINKS, ids=lambda c: c.reason)
def test_link(case: Link) -> None:
    update = fact_updates.guest_link_update(guest(**case.guest), record(**case.record), world())
    marks = {"link_changed_at", "guest_linked_once", "link_source"}
    written = {k: v for k, v in update.values.items() if k not in marks} if update else {}
    assert written == case.written, case.reason


@pytest.mark.parametrize(
    ("said", "values", "written", "reason"),
    [
        ("stopped", {}, "stopped", "where no guest can be observed, the order is all there is"),
        ("suspended", {}, None, "says nothing of power"),
        ("running", {}, None, "they agree"),
        ("stopped", {"power_source": "sync", "power_changed_at": ago(seconds=20)}, None, "a pushed state has a grace"),
        ("stopped", {"power_source": "sync", "power_changed_at": ago(seconds=26)}, "stopped", "the grace is over"),
    ],
)
def test_power_from_the_order(said: str, values: dict[str, Any], written: str | None, reason: str) -> None:
    update = fact_updates.power_from_order(order(status=said), record(**values), POLICY, world())
    assert (update.values["power_state"] if update else None) == written, reason


def test_the_grace_is_what_the_policy_says() -> None:
    assert POLICY.power_grace == timedelta(seconds=20)
