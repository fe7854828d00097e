"""May a guest be adopted into an order? Each reason against it, and what only has to wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.adoptions.permission import Around, names_another, why_guest_is_taken, why_never, why_not_yet
from domain.guests import FingerprintState, GuestKey, GuestType
from domain.orders import Order, OrderState
from tests.unit.reconcile.worlds import UNLINKED, ago, guest, order, record

GUEST = guest(vmid=900, name="old-1", fingerprint="smbios:old")
NO_GUEST: dict[str, Any] = {"cluster": None, "node": None, "vmid": None, "guest_type": None}
ORDER = order(**NO_GUEST)
OWN = record(**UNLINKED)
"""The order's record, which has no guest."""
DELETED = record(id=9, fingerprint="smbios:old", deleted_at=ago(days=3))
"""A deleted VPS of the order that had the guest."""


def test_an_order_without_a_guest_takes_one() -> None:
    for around in (Around(), Around(own=(OWN,))):
        assert why_never(GUEST, ORDER, around) is None
        assert why_not_yet(GUEST, ORDER, around) is None
    assert names_another(GUEST, ORDER) is None
    again = Around(own=(OWN,), deleted=(DELETED,))
    assert why_never(GUEST, ORDER, again) is why_not_yet(GUEST, ORDER, again) is None, "its own old machine"


NEVER: list[tuple[str, dict[str, Any], dict[str, Any], Around, str]] = [
    ("a template is nobody's", {"template": True}, {}, Around(), "is a template"),
    ("the order is over", {}, {"state": OrderState.ENDED, "status": "cancelled"}, Around(), "order 1 ended"),
    ("sold elsewhere", {}, {"hypervisor": "vmware"}, Around(), "was sold on vmware"),
    ("another type was sold", {}, {"guest_type": GuestType.LXC}, Around(), "sold another type"),
    (
        "another record has it",
        {},
        {},
        Around(others=(record(id=2, vmid=900, fingerprint=None),)),
        "guest main/900 is linked to VPS 2",
    ),
    (
        "a call named it for another record",
        {},
        {},
        Around(others=(record(id=2, **UNLINKED | {"claimed_cluster": "main", "claimed_vmid": 900}),)),
        "a call named guest main/900 for VPS 2",
    ),
    (
        "it is another record's machine, by its fingerprint",
        {},
        {},
        Around(others=(record(id=2, vmid=500, fingerprint="smbios:old"),)),
        "by its fingerprint, VPS 2's (main/500)",
    ),
    ("another order names it", {}, {}, Around(naming=("7", "6")), "order 6 names guest main/900"),
    ("the order has a machine", {}, {}, Around(own=(record(),)), "has VPS 1, whose guest is main/100"),
    (
        "the order's record is in dispute over another guest",
        {},
        {},
        Around(own=(record(**UNLINKED | {"claimed_cluster": "main", "claimed_vmid": 5}),)),
        "a call named guest main/5 for VPS 1",
    ),
    (
        "order and record name two customers",
        {},
        {"user_id": 6},
        Around(own=(OWN,)),
        "name different customers",
    ),
    (
        "a deleted VPS of another customer had this machine",
        {},
        {},
        Around(own=(OWN,), deleted=(replace(DELETED, user_id=6),)),
        "is the machine of VPS 9, which was deleted and was another customer's",
    ),
    ("two records", {}, {}, Around(own=(OWN, replace(OWN, id=2))), "has 2 records"),
]


@pytest.mark.parametrize(("guest_is", "order_is", "around", "why"), [c[1:] for c in NEVER], ids=[c[0] for c in NEVER])
def test_never(guest_is: dict[str, Any], order_is: dict[str, Any], around: Around, why: str) -> None:
    assert why in (why_never(replace(GUEST, **guest_is), replace(ORDER, **order_is), around) or "")


WAITING: list[tuple[str, dict[str, Any], dict[str, Any], Around, str]] = [
    ("Proxmox refuses it", {"fingerprint_state": FingerprintState.FORBIDDEN}, {}, Around(), "give the token VM.Audit"),
    ("never read", {"fingerprint_state": FingerprintState.UNREAD, "fingerprint": None}, {}, Around(), "not read yet"),
    ("it has no identity", {"fingerprint": None}, {}, Around(), "nothing that shows which machine"),
    ("a clone", {}, {}, Around(twins=(GuestKey("main", 901),)), "guest main/901 has the same identity"),
    ("not set up yet", {}, {"state": OrderState.PENDING, "status": "creating"}, Around(), "is creating: wait"),
    ("an unknown word", {}, {"state": OrderState.UNKNOWN, "status": "odd"}, Around(), "is odd: wait"),
    ("an unmapped owner", {}, {"user_id": None}, Around(), "users map PANEL_ID 1"),
    ("no owner at all", {}, {"user_id": None, "owner": None}, Around(), "names no owner"),
    ("its VPS was deleted", {}, {}, Around(deleted=(replace(DELETED, fingerprint=None),)), "panel-sync vps restore 9"),
    (
        "the VPS that it names was deleted",
        {},
        {"panel_vps_id": 9},
        Around(deleted=(replace(DELETED, order_id=None),)),
        "panel-sync vps restore 9",
    ),
    ("a call is under way", {}, {}, Around(own=(replace(OWN, in_flight=True),)), "waits to be applied"),
]


@pytest.mark.parametrize(
    ("guest_is", "order_is", "around", "why"), [c[1:] for c in WAITING], ids=[c[0] for c in WAITING]
)
def test_not_yet(guest_is: dict[str, Any], order_is: dict[str, Any], around: Around, why: str) -> None:
    about = replace(GUEST, **guest_is), replace(ORDER, **order_is), around
    assert why in (why_not_yet(*about) or "")
    assert why_never(*about) is None, "it only waits"


@pytest.mark.parametrize(
    ("named", "why"),
    [
        pytest.param(order(), "names guest main/100, and the main site's word counts", id="another guest"),
        pytest.param(order(vmid=900), "names guest main/900 itself", id="this very guest"),
    ],
)
def test_the_main_sites_word_counts(named: Order, why: str) -> None:
    assert why in (names_another(GUEST, named) or "")


def test_a_vmid_without_a_cluster_names_no_guest() -> None:
    assert names_another(GUEST, order(**NO_GUEST | {"vmid": 900})) is None


def test_a_guest_alone_is_free_or_taken() -> None:
    assert why_guest_is_taken(GUEST, Around()) is None
    assert why_guest_is_taken(GUEST, Around(naming=("7",))) == "order 7 names guest main/900"
