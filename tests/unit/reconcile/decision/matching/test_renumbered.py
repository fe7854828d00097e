"""A machine that moved while another customer got its old address: it is followed or its record is held, never let go.

What a record gave up, nobody looks for any more: its delete would rest on the order's end alone.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from domain.changes import Kind, Unlink
from domain.confirmations import GuestLeftItsAddress, NextOrderNamesGuest
from domain.guests import FingerprintState, GuestKey
from domain.orders import OrderState
from domain.records import LinkState
from panel.journal.repairs import changed_row
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from tests.unit.reconcile.decision.deletes.proven_ends import asked
from tests.unit.reconcile.decision.matching.stranger_cases import BOTH, ENDED, THEIRS
from tests.unit.reconcile.worlds import KEY, POLICY, absence, ago, guest, questions, record, world

AT_105, ELSEWHERE = GuestKey("main", 105), GuestKey("second", 7)
GONE_FROM_105: dict[str, Any] = {"guest_absences": {AT_105: absence()}}
NEXT_ONE = guest(fingerprint="smbios:b", name="other")
OVER = record(order_state=OrderState.ENDED, order_changed_at=ago(minutes=50))


def resold(**values: Any) -> World:
    """Order 1 ended, and its machine's address is another customer's machine's by now."""
    return world(**{"orders": (ENDED, THEIRS), "guests": (NEXT_ONE,), "records": (OVER,)} | values)


def seen_at(*places: GuestKey) -> dict[str, Any]:
    return {"sightings": {"smbios:a": frozenset({KEY, *places})}}


MISSED: dict[str, Any] = {"orders": (THEIRS,), "order_absences": {"1": absence(hours=30)}}


@pytest.mark.parametrize("ended", [{}, MISSED], ids=["its order ended", "its order is listed no more"])
@pytest.mark.parametrize(
    "address",
    [{"guests": (NEXT_ONE, guest(vmid=105))}, {"guests": (guest(vmid=105),), "guest_absences": {KEY: absence()}}],
    ids=["resold", "named anew"],
)
def test_a_machine_that_is_seen_at_its_new_address_is_followed_there(
    ended: dict[str, Any], address: dict[str, Any]
) -> None:
    """Nor is it taken for sold on: the next order names the address that it left."""
    made = plan(resold(**ended, **address), POLICY)
    assert {f.class_ for f in made.findings if f.vps_id == 1} <= {"ended-but-running", "guest-without-order"}
    (change,) = [c for c in made.changes if c.record is not None]
    assert (change.kind, change.guest_key, questions(change)) == (Kind.LINK, AT_105, (GuestLeftItsAddress,))


@pytest.mark.parametrize(
    ("places", "values"),
    [
        pytest.param((AT_105,), {}, id="nothing proves that it is gone from there"),
        pytest.param((AT_105,), {"guest_absences": {AT_105: absence(2)}}, id="missed twice only"),
        pytest.param((ELSEWHERE,), BOTH, id="in another cluster"),
        pytest.param((), {"clusters": BOTH["clusters"]}, id="a cluster was not read"),
        pytest.param((), {"unidentified": None}, id="too many are not identified"),
        pytest.param(
            (),
            {"unidentified": (guest(vmid=300, fingerprint=None, fingerprint_state=FingerprintState.FORBIDDEN),)},
            id="a guest that nobody identified may be it",
        ),
    ],
)
def test_a_record_whose_machine_may_be_elsewhere_keeps_what_it_is_looked_for_by(
    places: tuple[GuestKey, ...], values: dict[str, Any]
) -> None:
    made = plan(resold(**seen_at(*places) | values), POLICY)
    assert [c for c in made.changes if c.record is not None and c not in asked(made)] == []
    (held,) = [f for f in made.findings if f.vps_id == 1 and f.class_ == "delete-held"]
    assert "the machine of VPS 1" in held.reason


def test_so_does_one_whose_order_is_listed_no_more() -> None:
    assert [c.kind for c in plan(resold(**MISSED, **GONE_FROM_105, **seen_at(AT_105)), POLICY).changes] == [Kind.UNLINK]
    assert plan(resold(**MISSED, **seen_at(AT_105)), POLICY).changes == ()


def test_an_identity_that_is_not_verified_any_more_goes_into_dispute_with_its_address() -> None:
    """Its end waits for an operator, as it would while the record still had the address."""
    unread = replace(OVER, link_state=LinkState.UNVERIFIED)
    (change,) = plan(resold(records=(unread,)), POLICY).changes
    assert isinstance(change, Unlink)
    row = {**asdict(unread), "fingerprint": unread.fingerprint, "link_state": "unverified"}
    assert changed_row(row, change, ago())["link_state"] == "conflict"
    assert changed_row(row | {"link_state": "verified"}, change, ago())["link_state"] == "unlinked"


def test_before_a_record_gives_up_its_address_its_machine_is_looked_for_wherever_it_was_seen() -> None:
    (change,) = plan(resold(**GONE_FROM_105, **seen_at(AT_105)), POLICY).changes
    assert change.kind is Kind.UNLINK
    assert questions(change) == (NextOrderNamesGuest, GuestLeftItsAddress, GuestLeftItsAddress)
    assert [one.guest_key for one in change.confirm if isinstance(one, GuestLeftItsAddress)] == [KEY, AT_105]
