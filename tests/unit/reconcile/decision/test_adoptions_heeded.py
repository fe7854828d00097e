"""An adoption in a run: the order counts as if it named the guest, and what is written says whose word that was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.adoptions.decision import Adoption, Lapses, Stands, Waits
from domain.changes import Change, Create, Link
from domain.confirmations import GuestIsTheSameMachine, OrderNamesGuest
from domain.guests import FingerprintState, GuestKey, GuestType
from reconcile.decision.adoptions import heed
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from tests.unit.reconcile.worlds import POLICY, UNLINKED, ago, guest, order, record, world

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
GUEST = guest(vmid=900, name="old-1", fingerprint="smbios:old", fingerprint_read_at=ago(minutes=1))
ORDER = order(cluster=None, node=None, vmid=None, guest_type=None)
RECORD = record(**UNLINKED)
GONE = record(id=9, fingerprint="smbios:old", deleted_at=ago(days=3))
MERGED = record(id=4, merged_into=1, deleted_at=ago(days=1))
UNMANAGED = ("unmanaged-guest", "guest:main/900")


def seen(**values: Any) -> World:
    """A guest that nobody ordered, and an order whose record has no guest."""
    return world(**{"orders": (ORDER,), "guests": (GUEST,), "records": (RECORD,)} | values)


def changes(of: World, adoption: Adoption = ADOPTION) -> list[Change]:
    heeded, _ = heed(of, [adoption])
    return list(plan(heeded, POLICY).changes)


def findings(of: World) -> set[tuple[str, str]]:
    return {(found.class_, found.subject) for found in plan(of, POLICY).findings}


def test_without_one_the_guest_is_nobodys() -> None:
    assert UNMANAGED in findings(seen())
    assert heed(seen(), []) == (seen(), {})


def test_the_orders_record_is_linked_with_the_guest() -> None:
    heeded, judged = heed(seen(), [ADOPTION])
    assert judged == {3: Stands()}
    assert UNMANAGED not in findings(heeded)
    (link,) = changes(seen())
    assert isinstance(link, Link)
    assert (link.record, link.guest, link.source, link.adoption) == (RECORD, GUEST, "operator", 3)
    assert {n: link.values[n] for n in ("cluster", "vmid", "fingerprint", "link_state")} == {
        "cluster": "main",
        "vmid": 900,
        "fingerprint": "smbios:old",
        "link_state": "verified",
    }
    assert link.reason == "matched with guest main/900; an operator adopted guest main/900 into order 1"
    assert {n: link.evidence[n] for n in ("adoption", "adopted_by", "adopted_because")} == {
        "adoption": 3,
        "adopted_by": "api:olga",
        "adopted_because": "the old fleet",
    }
    order_asked, same = link.confirm
    assert isinstance(order_asked, OrderNamesGuest)
    assert (order_asked.guest_key, order_asked.or_none) == (ADOPTION.key, True)
    assert same == GuestIsTheSameMachine(GUEST, ADOPTION.key), "the machine is looked at once more"


def test_an_order_without_a_record_gets_one_with_the_guest() -> None:
    (create,) = changes(seen(records=()))
    assert isinstance(create, Create)
    assert (create.guest, create.adoption, create.source) == (GUEST, 3, "orders")
    assert (create.values["user_id"], create.values["vmid"]) == (5, 900)
    assert GuestIsTheSameMachine(GUEST, ADOPTION.key) in create.confirm


def test_no_owner_is_ever_written() -> None:
    for records in ((RECORD,), ()):
        for change in changes(seen(records=records)):
            assert change.values.get("user_id", 5) == 5


@pytest.mark.parametrize(
    ("values", "judged"),
    [
        pytest.param({"guests": (replace(GUEST, fingerprint="smbios:new"),)}, Lapses, id="the VMID was sold again"),
        pytest.param({"orders": (replace(ORDER, owner="2", user_id=6),)}, Lapses, id="the order is another customer's"),
        pytest.param(
            {"records": (RECORD, record(id=2, order_id=None, vmid=900, fingerprint=None))}, Lapses, id="a call took it"
        ),
        pytest.param(
            {"records": (RECORD, record(id=2, order_id="2", vmid=7, fingerprint="smbios:old"))},
            Lapses,
            id="another record's machine",
        ),
        pytest.param({"orders": (ORDER, order(order_id="2", vmid=900))}, Lapses, id="another order names it"),
        pytest.param(
            {"missed_orders": (order(order_id="2", vmid=900),)}, Lapses, id="an order that is only missed names it"
        ),
        pytest.param({"records": (replace(RECORD, user_id=6),)}, Lapses, id="the record is another customer's"),
        pytest.param(
            {"records": (RECORD, replace(GONE, order_id="8", user_id=6))}, Lapses, id="a deleted VPS of another had it"
        ),
        pytest.param({"records": (GONE,)}, Waits, id="the order's VPS was deleted"),
        pytest.param({"orders": (), "missed_orders": (ORDER,)}, Waits, id="the order is missed"),
        pytest.param(
            {"guests": (GUEST, replace(GUEST, vmid=901))}, Waits, id="a clone: nobody knows which of the two it was"
        ),
        pytest.param(
            {"guests": (replace(GUEST, fingerprint_state=FingerprintState.STALE),)}, Waits, id="an identity in doubt"
        ),
        pytest.param(
            {"records": (MERGED, replace(RECORD, order_id=None, user_id=6)),
             "orders": (replace(ORDER, panel_vps_id=4),)},
            Lapses,
            id="the record into which the named one was merged is another customer's",
        ),
    ],
)  # fmt: skip
def test_nothing_of_it_is_written_where_it_does_not_stand(values: dict[str, Any], judged: type) -> None:
    heeded, words = heed(seen(**values), [ADOPTION])
    assert isinstance(words[3], judged)
    assert heeded.adoptions == {}
    assert heeded.orders == seen(**values).orders
    assert not [change for change in plan(heeded, POLICY).changes if change.adoption is not None]


def test_the_order_of_adoptions_is_irrelevant() -> None:
    other = replace(ADOPTION, id=4, key=GuestKey("main", 901), fingerprint="smbios:b", order_id="2")
    both = seen(
        orders=(ORDER, replace(ORDER, order_id="2")),
        guests=(GUEST, replace(GUEST, vmid=901, fingerprint="smbios:b")),
        records=(RECORD, record(id=2, **UNLINKED | {"order_id": "2"})),
    )
    assert heed(both, [ADOPTION, other])[0] == heed(both, [other, ADOPTION])[0]
    assert {change.record.id for change in changes(both, other) if change.record is not None} == {2}
