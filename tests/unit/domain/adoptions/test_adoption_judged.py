"""What a run makes of an operator's adoption: it stands, it waits, or what was decided is not true any more."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from domain.adoptions.decision import KEPT_FOR, Adoption, Lapses, Stands, Waits, judge
from domain.adoptions.permission import Around
from domain.guests import FingerprintState, GuestKey, GuestType
from domain.orders import OrderState
from tests.unit.reconcile.worlds import NOW, UNLINKED, ago, guest, order, record

ADOPTION = Adoption(
    id=3,
    key=GuestKey("main", 900),
    guest_type=GuestType.QEMU,
    fingerprint="smbios:old",
    order_id="1",
    owner="1",
    user_id=5,
    adopted_by="api:olga",
    adopted_at=ago(minutes=5),
    reason="the old fleet",
)
GUEST = guest(vmid=900, fingerprint="smbios:old", fingerprint_read_at=ago(minutes=1))
ORDER = order(cluster=None, node=None, vmid=None, guest_type=None)
AROUND = Around(own=(record(**UNLINKED),))


def test_it_stands_once_the_machine_was_read_again() -> None:
    assert judge(ADOPTION, GUEST, ORDER, AROUND, NOW) == Stands()


LAPSES: list[tuple[str, dict[str, Any], dict[str, Any], Around, str]] = [
    ("the VMID was sold again", {"fingerprint": "smbios:new"}, {}, AROUND, "is another machine by now"),
    ("it lost its identity", {"fingerprint": None}, {}, AROUND, "it is without an identity"),
    ("it is a container now", {"guest_type": GuestType.LXC}, {}, AROUND, "is lxc now"),
    ("another customer's, by the main site", {}, {"owner": "2", "user_id": 6}, AROUND, "another customer than when"),
    ("the owner's map changed", {}, {"user_id": 6}, AROUND, "another customer than when"),
    ("the order ended", {}, {"state": OrderState.ENDED}, AROUND, "order 1 ended"),
    ("the order names another guest", {}, {"cluster": "main", "vmid": 7}, AROUND, "names guest main/7"),
    ("a call took the guest", {}, {}, Around(others=(record(id=2, vmid=900),)), "is linked to VPS 2"),
    ("another order names the guest", {}, {}, Around(naming=("9",)), "order 9 names guest main/900"),
    ("the order got a machine", {}, {}, Around(own=(record(),)), "whose guest is main/100"),
]


@pytest.mark.parametrize(("guest_is", "order_is", "around", "why"), [c[1:] for c in LAPSES], ids=[c[0] for c in LAPSES])
def test_it_lapses(guest_is: dict[str, Any], order_is: dict[str, Any], around: Around, why: str) -> None:
    judged = judge(ADOPTION, replace(GUEST, **guest_is), replace(ORDER, **order_is), around, NOW)
    assert isinstance(judged, Lapses)
    assert why in judged.why


WAITS: list[tuple[str, dict[str, Any] | None, dict[str, Any] | None, Around, str]] = [
    ("the guest is not listed", None, {}, AROUND, "guest main/900 is not listed"),
    ("the order is not listed", {}, None, AROUND, "order 1 is not listed"),
    ("its identity is in doubt", {"fingerprint_state": FingerprintState.STALE}, {}, AROUND, "must be read again"),
    ("it was read before the decision", {"fingerprint_read_at": ago(minutes=6)}, {}, AROUND, "must be read again"),
    (
        "another machine, as an old read said",
        {"fingerprint_state": FingerprintState.STALE, "fingerprint": "smbios:new"},
        {},
        AROUND,
        "must be read again",
    ),
    ("a clone appeared", {}, {}, Around(twins=(GuestKey("main", 901),)), "has the same identity"),
    ("the order's word is odd", {}, {"state": OrderState.UNKNOWN, "status": "odd"}, AROUND, "is odd"),
    ("a call is under way", {}, {}, Around(own=(record(**UNLINKED, in_flight=True),)), "waits to be applied"),
]


@pytest.mark.parametrize(("guest_is", "order_is", "around", "why"), [c[1:] for c in WAITS], ids=[c[0] for c in WAITS])
def test_it_waits(guest_is: dict[str, Any] | None, order_is: dict[str, Any] | None, around: Around, why: str) -> None:
    seen = None if guest_is is None else replace(GUEST, **guest_is)
    sold = None if order_is is None else replace(ORDER, **order_is)
    judged = judge(ADOPTION, seen, sold, around, NOW)
    assert isinstance(judged, Waits)
    assert why in judged.why


@pytest.mark.parametrize("seen", [GUEST, None], ids=["all is well", "nothing is listed"])
def test_it_does_not_wait_for_good(seen: Any) -> None:
    old = replace(ADOPTION, adopted_at=NOW - KEPT_FOR)
    assert judge(old, seen, ORDER, AROUND, NOW) == Lapses("no run could follow it within 7 days")
    younger = replace(old, adopted_at=old.adopted_at + timedelta(seconds=1))
    assert not isinstance(judge(younger, seen, ORDER, AROUND, NOW), Lapses)
