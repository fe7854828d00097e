"""What is under way, and what was deleted here: nothing is written of it, and no finding comes or goes too soon."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from domain.changes import ChangePlan, Kind
from domain.guests import FingerprintState, GuestType
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from reconcile.decision.cases import World
from reconcile.decision.decide import plan
from reconcile.decision.failure_isolation import Planned, isolated_plan
from tests.unit.reconcile.worlds import KEY, POLICY, UNLINKED, absence, ago, guest, order, record, world

LOCKED: dict[str, Any] = {"lock": "backup", "lock_since": ago(minutes=5)}


def planned(seen: World) -> Planned:
    return isolated_plan(seen, POLICY, {}, {})


def told(made: ChangePlan) -> list[str]:
    return [f.class_ for f in made.findings]


class TestUnderALock:
    """A guest under a lock is left alone: what it is, where it is and what it does are not written."""

    @pytest.mark.parametrize(
        ("shown", "kept", "reason"),
        [
            ({"node": "pve2"}, {}, "it migrates"),
            ({"fingerprint": "smbios:b"}, {"fingerprint": None, "link_state": LinkState.PUSHED}, "first identified"),
            ({}, UNLINKED, "found by its order"),
            ({"fingerprint": "smbios:b"}, {}, "restored as another machine"),
            ({"fingerprint_state": FingerprintState.FORBIDDEN}, {}, "unreadable"),
            ({"guest_type": GuestType.LXC}, {}, "of another type"),
        ],
    )
    def test_no_link_is_written(self, shown: dict[str, Any], kept: dict[str, Any], reason: str) -> None:
        def kinds(**lock: Any) -> list[Kind]:
            seen = world(orders=(order(),), guests=(guest(**shown, **lock),), records=(record(**kept),))
            return [c.kind for c in plan(seen, POLICY).changes]

        assert kinds() == [Kind.LINK], reason
        assert kinds(**LOCKED) == []
        assert kinds(lock="backup", lock_since=ago(hours=2)) == [Kind.LINK], "a leftover protects no more"

    def test_the_orders_facts_flow_on(self) -> None:
        sold = order(state=OrderState.SUSPENDED, cpu=8)
        made = plan(world(orders=(sold,), guests=(guest(**LOCKED),), records=(record(),)), POLICY)
        assert [(c.kind, c.values.get("order_state")) for c in made.changes] == [
            (Kind.STATUS, "suspended"),
            (Kind.SIZE, None),
        ]


@pytest.mark.parametrize(
    ("seen", "left"),
    [
        pytest.param(world(orders=(order(),), guests=(guest(),), records=(record(),)), set[str](), id="nothing"),
        pytest.param(
            world(orders=(order(),), guests=(guest(),), records=(record(in_flight=True),)),
            {"vps:1", "order:1", "guest:main/100"},
            id="a call",
        ),
        pytest.param(
            world(orders=(order(),), guests=(guest(**LOCKED),), records=(record(),)),
            {"vps:1", "order:1", "guest:main/100"},
            id="a lock",
        ),
        pytest.param(world(guests=(guest(**LOCKED),)), {"guest:main/100"}, id="a locked guest alone"),
        pytest.param(world(guests=(guest(lock="suspended"),)), set[str](), id="hibernation is none"),
    ],
)
def test_findings_of_what_is_under_way_are_not_taken_for_resolved(seen: World, left: set[str]) -> None:
    """A backup each night would else resolve and reopen what was acknowledged long ago."""
    assert planned(seen).left_out == left


class Deleted(NamedTuple):
    order: Order
    record: Record
    rest: dict[str, Any]
    finding: str | None
    reason: str


def dead(**values: Any) -> Record:
    return record(**{"deleted_at": ago(days=1)} | values)


HERE: dict[str, Any] = {"guests": (guest(),)}
GONE: dict[str, Any] = {"guest_absences": {KEY: absence()}}
UNKNOWN = order(state=OrderState.UNKNOWN, status="frozen")
PENDING = order(state=OrderState.PENDING)
ENDED = order(state=OrderState.ENDED, state_since=ago(hours=1))

OF_DELETED = [
    Deleted(order(), dead(), HERE, "deleted-but-alive", "going, and there"),
    Deleted(order(), dead(), GONE, "paid-but-missing", "going, and proven absent"),
    Deleted(order(), dead(deleted_at=ago(minutes=29)), GONE, None, "deleted less than the grace ago"),
    Deleted(order(), dead(), {}, None, "going, and not seen, which proves nothing"),
    Deleted(order(state=OrderState.SUSPENDED), dead(), GONE, None, "suspended, and gone: it is on its way out"),
    Deleted(UNKNOWN, dead(), HERE, "unrecognised-order", "a word nobody knows"),
    Deleted(UNKNOWN, dead(deleted_at=ago(minutes=1)), HERE, None, "that word was read before the delete was known"),
    Deleted(PENDING, dead(), HERE, "stuck-creating", "pending for hours"),
    Deleted(PENDING, dead(deleted_at=ago(minutes=1)), HERE, None, "pending in a feed that lags"),
    Deleted(ENDED, dead(), HERE, "ended-but-running", "kept for a while"),
    Deleted(ENDED, dead(deleted_at=ago(minutes=1)), HERE, None, "its guest is being destroyed just now"),
    Deleted(ENDED, dead(), GONE, None, "as it should be"),
]


@pytest.mark.parametrize("case", OF_DELETED, ids=lambda c: c.reason)
def test_findings_of_deleted_records(case: Deleted) -> None:
    made = plan(world(orders=(case.order,), records=(case.record,), **case.rest), POLICY)
    assert made.changes == (), "nothing is resurrected"
    assert told(made) == ([case.finding] if case.finding else []), case.reason


def test_a_record_whose_order_is_being_missed_is_not_called_unlinked() -> None:
    once = world(records=(record(),), guests=(guest(),), order_absences={"1": absence(1)})
    assert told(plan(once, POLICY)) == []
    never = world(records=(record(),), guests=(guest(),))
    assert told(plan(never, POLICY)) == ["unlinked-record"]
