"""Which queues a set takes, and which are applied call by call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from panel.journal.call_sets.decision import QueueOutcome, UnusualError, decide, shared
from panel.records.projection import Row
from tests.support.calls import PLAN

AT = datetime(2026, 1, 1, tzinfo=UTC)
GUEST = {"cluster": "main", "vmid": 100}


@dataclass(frozen=True, slots=True)
class Queued:
    """A queued call."""

    seq: int
    action: str
    payload: dict[str, Any]
    id: int = 0
    vps_id: int = 1
    accepted_at: datetime = AT


def created(**payload: Any) -> Row:
    row = decide(1, None, [Queued(1, "create", PLAN | payload)], set()).row
    assert row is not None
    return row


def decided(row: Row | None, *calls: tuple[str, dict[str, Any]], taken: tuple[str, ...] = ()) -> QueueOutcome:
    queued = [Queued(n, action, payload, 10 + n) for n, (action, payload) in enumerate(calls, 2)]
    return decide(1, row, queued, set(taken))


def test_a_queue_is_decided_in_its_order() -> None:
    running = {"status": "running"} | GUEST
    outcome = decided(None, ("create", PLAN), ("update", running), ("delete", {}), ("update", {"status": "stopped"}))
    assert [(e.id, e.state, e.result) for e in outcome.ended] == [
        (12, "applied", "created creating"),
        (13, "applied", "creating -> running"),
        (14, "applied", "deleted"),
        (15, "superseded", None),
    ]
    assert outcome.row is not None
    assert (outcome.row["version"], outcome.row["applied_seq"], outcome.applied_seq) == (3, 4, 5)
    assert outcome.is_deleted
    assert outcome.doubted == {("main", 100)}


def test_an_update_that_brings_its_order_claims_it() -> None:
    assert decided(created(), ("update", {"order_id": "7"})).claims == {"7": 12}
    assert decided(created(order_id="7"), ("update", {"order_id": "7"})).claims == {}


def test_what_changes_no_record_leaves_it_as_it_is() -> None:
    outcome = decided(None, ("update", {"status": "running"}))
    assert (outcome.row, outcome.ended[0].state) == (None, "rejected")
    row = created()
    again = decided(row, ("create", PLAN))
    assert again.row is row
    assert again.ended[0].reason == "the record exists already"


@pytest.mark.parametrize(
    ("row", "call", "taken", "reason"),
    [
        (None, ("create", PLAN | {"order_id": "7"}), "order:7", "the order has a record, or waits for its delete"),
        (None, ("create", PLAN | GUEST), "guest:main/100", "the guest is another record's"),
        (created(), ("update", GUEST), "guest:main/100", "the same by an update"),
        (created(**GUEST), ("update", {"status": "running"}), "guest:main/100", "its own guest is in doubt"),
        (created(), ("update", {"order_id": "7"}), "order:7", "the order is another VPS's"),
        (created(order_id="6"), ("update", {"order_id": "7"}), "", "it has another order"),
        (created(), ("update", {"user_id": 6}), "", "another owner raises an alarm"),
        (created(order_id="6"), ("delete", {"order_id": "7"}), "", "a delete for another order ends dead"),
    ],
)
def test_what_is_unusual_is_applied_call_by_call(
    row: Row | None, call: tuple[str, dict[str, Any]], taken: str, reason: str
) -> None:
    with pytest.raises(UnusualError):
        pytest.fail(f"{reason}: {decided(row, call, taken=(taken,))}")


def test_names_that_two_share() -> None:
    assert shared([["a", "b", "b"], ["b"], ["c"]]) == {"b"}
