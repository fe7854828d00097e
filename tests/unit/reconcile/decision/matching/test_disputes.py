"""A record for which a call named a guest that another had: taken once nothing stands against it, told until then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.changes import Kind
from domain.confirmations import OrderNamesGuest
from domain.guests import FingerprintState, GuestType, PowerState
from domain.orders import Order, OrderState
from domain.records import LinkState
from reconcile.decision.decide import plan
from tests.unit.reconcile.worlds import KEY, POLICY, UNLINKED, ago, guest, order, questions, record, world

NAMELESS: dict[str, Any] = {"cluster": None, "vmid": None, "node": None, "guest_type": None}
CLAIM: dict[str, Any] = UNLINKED | {
    "link_state": LinkState.CONFLICT, "claimed_cluster": KEY.cluster, "claimed_vmid": KEY.vmid,
}  # fmt: skip
DISPUTED = record(id=2, order_id="2", **CLAIM)
GOES_ON = order(order_id="2", panel_vps_id=2, **NAMELESS)
HOLDER = record()


def told(*orders: Order, **seen: Any) -> list[str]:
    """What the findings of a dispute say; nothing is written of the record meanwhile."""
    made = plan(world(orders=orders, **{"guests": (guest(),), "records": (DISPUTED,)} | seen), POLICY)
    assert not [c for c in made.changes if c.record is DISPUTED and c.kind is Kind.LINK]
    return [f.reason for f in made.findings if (f.class_, f.subject) == ("link-conflict", "vps:2")]


OTHER = order(order_id="3", user_id=6, owner="6", panel_vps_id=None)
AGAINST: dict[str, tuple[tuple[Order, ...], dict[str, Any]]] = {
    "is VPS 1's": ((order(), GOES_ON), {"records": (HOLDER, DISPUTED)}),
    "has no record, and no order of that VPS is known": ((), {}),
    "has no record, and order 2 ended": (
        (replace(GOES_ON, state=OrderState.ENDED, status="cancelled", state_since=ago(hours=1)),), {},
    ),
    "is named by order 3": ((GOES_ON, OTHER), {}),
    "a call named it for VPS 4, too": ((GOES_ON,), {"records": (DISPUTED, record(id=4, order_id="4", **CLAIM))}),
    "does not exist": ((GOES_ON,), {"guests": ()}),
    "is lxc, and order 2 sold another type": (
        (replace(GOES_ON, guest_type=GuestType.QEMU),), {"guests": (guest(guest_type=GuestType.LXC),)},
    ),
    "by its fingerprint, VPS 1's": (
        (GOES_ON,), {"records": (replace(HOLDER, vmid=107, fingerprint=guest().fingerprint), DISPUTED)},
    ),
    "order 2 names main/150": ((replace(GOES_ON, cluster="main", vmid=150),), {}),
}  # fmt: skip


@pytest.mark.parametrize("why", AGAINST)
def test_while_something_stands_against_it_that_is_told_and_nothing_is_taken(why: str) -> None:
    orders, seen = AGAINST[why]
    (said,) = told(*orders, **seen)
    assert why in said


def test_once_nothing_does_it_is_linked_as_any_first_link_and_the_order_is_asked() -> None:
    seen = world(orders=(GOES_ON,), guests=(guest(),), records=(DISPUTED,))
    (change,) = [c for c in plan(seen, POLICY).changes if c.kind is Kind.LINK]
    assert (change.record, change.guest_key, questions(change)) == (DISPUTED, KEY, (OrderNamesGuest,))
    assert {k: change.values[k] for k in ("vmid", "link_state", "claimed_cluster", "claimed_vmid")} == {
        "vmid": KEY.vmid,
        "link_state": "verified",
        "claimed_cluster": None,
        "claimed_vmid": None,
    }


def test_without_a_main_site_the_calls_word_has_to_do() -> None:
    seen = world(orders=(), guests=(guest(),), records=(DISPUTED,), has_feed=False)
    (change,) = [c for c in plan(seen, POLICY).changes if c.kind is Kind.LINK]
    assert (change.guest_key, change.confirm) == (KEY, ())


@pytest.mark.parametrize("state", [FingerprintState.READ, FingerprintState.FORBIDDEN])
@pytest.mark.parametrize("claimed", [True, False])
def test_a_machine_without_identity_that_a_call_named_for_another_shows_its_power_to_nobody(
    state: FingerprintState, *, claimed: bool
) -> None:
    """It was switched over or replaced: where nothing tells which, a read ends the doubt, and proves nothing."""
    holder = record(fingerprint=None, link_state=LinkState.UNVERIFIED)
    there = guest(fingerprint=None, fingerprint_state=state, power=PowerState.STOPPED, status="stopped")
    records = (holder, DISPUTED) if claimed else (holder,)
    made = plan(world(orders=(order(), GOES_ON), guests=(there,), records=records), POLICY)
    written = [c for c in made.changes if c.record is holder and c.kind is Kind.STATUS]
    assert bool(written) is not claimed
    assert claimed is any("the machine of either" in f.reason for f in made.findings)
