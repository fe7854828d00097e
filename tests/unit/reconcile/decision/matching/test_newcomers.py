"""A machine that came after an order or a call named its address is linked once the next order must be known, too."""

from __future__ import annotations

from typing import Any

import pytest

from domain.changes import Kind
from domain.records import LinkState
from reconcile.decision.decide import plan
from tests.unit.reconcile.decision.matching.matched import cases, doubts
from tests.unit.reconcile.worlds import KEY, POLICY, UNLINKED, ago, guest, order, record, world

LATE: dict[str, Any] = {"first_seen_at": ago(minutes=20), "fingerprint_since": ago(minutes=20)}
READ_SINCE = ago(minutes=10)
NAMED = order(guest_since=ago(hours=1))
BY_CALL = record(link_state=LinkState.PUSHED, fingerprint=None, link_changed_at=ago(hours=1))
CLAIMED = record(
    **UNLINKED | {"link_state": LinkState.CONFLICT, "claimed_cluster": "main", "claimed_vmid": 100},
    link_changed_at=ago(hours=1),
)
NAMELESS = order(cluster=None, vmid=None, guest_type=None)


@pytest.mark.parametrize(
    ("late", "read_before", "has_feed", "doubted"),
    [
        pytest.param(LATE, None, True, True, id="the feed is not read any more"),
        pytest.param(LATE, ago(minutes=19), True, True, id="the feed was read, but just after it came"),
        pytest.param(LATE, READ_SINCE, True, False, id="the feed was read twice since"),
        pytest.param({}, None, True, False, id="it was there when its address was named"),
        pytest.param({"first_seen_at": ago(minutes=59)}, None, True, False, id="it came within the gap of two reads"),
        pytest.param({"first_seen_at": None}, None, True, False, id="nobody knows since when it is there"),
        pytest.param(LATE, None, False, False, id="there is no feed that could tell more"),
    ],
)
@pytest.mark.parametrize(
    ("named", "records"),
    [
        pytest.param(NAMED, (), id="a lost create"),
        pytest.param(NAMED, (record(**UNLINKED),), id="a first link by the order"),
        pytest.param(NAMED, (BY_CALL,), id="a link by a call, never read"),
    ],
)
def test_who_came_later_may_be_the_next_buyers(
    named: Any, records: tuple[Any, ...], late: dict[str, Any], read_before: Any, has_feed: bool, doubted: bool
) -> None:
    seen = world(
        orders=(named,), guests=(guest(**late),), records=records, orders_read_before=read_before, has_feed=has_feed
    )
    (case,) = cases(seen)
    assert (case.doubt is not None) is doubted, case.doubt
    if doubted:
        assert case.doubt is not None
        assert case.doubt.endswith("came after its address was named: the orders must be read twice first")
        assert plan(seen, POLICY).changes == ()


def test_nothing_is_made_of_a_lost_create_before_its_machine_is_known_to_be_its_own() -> None:
    def kinds(**values: Any) -> list[Kind]:
        seen = world(orders=(NAMED,), guests=(guest(**LATE),), records=(), **values)
        return [change.kind for change in plan(seen, POLICY).changes]

    assert kinds(orders_read_before=None) == []
    assert kinds(orders_read_before=READ_SINCE) == [Kind.CREATE]


def test_a_claim_of_a_call_means_the_machine_that_stood_there() -> None:
    def found(**values: Any) -> Any:
        seen = world(orders=(NAMELESS,), guests=(guest(**LATE),), records=(CLAIMED,), **values)
        return next(case for case in cases(seen) if case.record is not None)

    early = found(orders_read_before=None)
    assert (early.guest, early.dispute) == (
        None,
        "guest main/100, which a call named for VPS 1, came after that call: the orders must be read twice first; "
        "let order 1 name its own guest, or send an update with its cluster and vmid",
    )
    assert found(orders_read_before=READ_SINCE).guest.key == KEY


def test_a_machine_that_was_read_and_linked_is_not_asked_about() -> None:
    assert doubts(world(orders=(NAMED,), guests=(guest(**LATE),), records=(record(),), orders_read_before=None)) == []
