"""Many calls in one transaction: few statements, and no call pays for another one's fault or lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from panel.journal import rows
from panel.journal.accept import Acceptor
from panel.journal.call_sets import apply as sets
from panel.journal.call_sets.apply import apply_calls
from panel.journal.call_sets.decision import decide
from panel.journal.call_sets.loaded import Patience, load
from panel.journal.calls import Accepted
from panel.journal.relay import CLAIM_FIRST
from panel.journal.writer import apply_operation
from tests.integration.panel.conftest import accepted, statements
from tests.support.calls import create_call, update_call
from tests.support.fleets.world import journal, operation, vps_row


async def creates(acceptor: Acceptor, number: int) -> list[Accepted]:
    calls = [create_call(name=f"vps-{n}", order_id=f"o-{n}", cluster="main", vmid=100 + n) for n in range(number)]
    return [one for one in await acceptor.accept_in_order(calls) if isinstance(one, Accepted)]


def ids(calls: list[Accepted]) -> list[int]:
    return [call.operation_id for call in calls]


def states(panel: Engine) -> list[str]:
    with panel.connect() as connection:
        return list(connection.scalars(text("SELECT state FROM operations ORDER BY id")))


def poison(owner: Engine, operation_id: int) -> None:
    """A value that validation keeps out and that a constraint refuses."""
    with owner.begin() as connection:
        wrong = text("UPDATE operations SET payload = payload || '{\"ram\": 1}' WHERE id = :id")
        connection.execute(wrong, {"id": operation_id})


@contextmanager
def held(panel: Engine) -> Iterator[Connection]:
    """Another transaction, which does not end."""
    with panel.connect() as connection, connection.begin():
        yield connection


async def test_many_calls_take_as_many_statements_as_few(acceptor: Acceptor, panel: Engine) -> None:
    calls = await creates(acceptor, 40)
    with statements(panel) as few:
        assert apply_calls(panel, ids(calls[:3])) == "3 applied"
    with statements(panel) as many:
        assert apply_calls(panel, ids(calls[3:])) == "37 applied"
    assert len(few) == len(many) <= 14


async def test_the_calls_of_a_vps_are_applied_in_their_order(acceptor: Acceptor, panel: Engine) -> None:
    first, second = await creates(acceptor, 2)
    updates = [await accepted(acceptor, update_call(first.vps_id, status)) for status in ("running", "stopped")]
    assert apply_calls(panel, [updates[0].operation_id, second.operation_id]) == "2 applied", "and the create before it"
    assert [row["result"] for row in journal(panel, first.vps_id)] == ["created creating", "creating -> running", None]
    assert apply_calls(panel, [updates[1].operation_id]) == "applied running -> stopped"
    row = vps_row(panel, first.vps_id)
    assert row is not None
    assert (row["version"], row["applied_seq"]) == (3, 3)


async def test_what_is_done_or_unknown_is_left_alone(acceptor: Acceptor, panel: Engine) -> None:
    calls = await creates(acceptor, 2)
    apply_calls(panel, ids(calls)[:1])
    assert apply_calls(panel, [*ids(calls), 4711]) == "2 applied, 1 unknown"
    assert apply_calls(panel, ids(calls)[:1]) == "already applied"


@pytest.mark.parametrize("number", [3, 40])
async def test_a_bad_call_fails_alone(acceptor: Acceptor, panel: Engine, owner: Engine, number: int) -> None:
    calls = await creates(acceptor, number)
    poison(owner, calls[1].operation_id)
    assert apply_calls(panel, ids(calls)) == f"{number - 1} applied, 1 queued"
    bad = operation(panel, calls[1].operation_id)
    assert (bad["attempts"], bad["error"]) == (1, "CheckViolation 23514 ck_vps_plan_positive")
    assert apply_calls(panel, ids(calls[1:])) == f"{number - 2} applied, 1 queued"
    assert operation(panel, calls[1].operation_id)["attempts"] == 2


async def test_a_bug_that_one_call_meets_stops_no_other(
    acceptor: Acceptor, panel: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = await creates(acceptor, 20)

    def fails(vps_id: int, *arguments: Any) -> Any:
        if vps_id == calls[5].vps_id:
            raise ZeroDivisionError
        return decide(vps_id, *arguments)

    def fails_again(engine: Engine, id_: int) -> Any:
        if id_ == calls[5].operation_id:
            raise ZeroDivisionError
        return apply_operation(engine, id_)

    monkeypatch.setattr(sets, "decide", fails)
    monkeypatch.setattr(sets, "apply_operation", fails_again)
    with pytest.raises(ZeroDivisionError):
        apply_calls(panel, ids(calls))
    assert states(panel).count("applied") == 19


class TestLocks:
    """What another transaction holds is left for a message of its own, and the rest is applied."""

    @pytest.mark.parametrize("by", ["queue", "order"])
    async def test_a_locked_vps_holds_nobody_up(self, acceptor: Acceptor, panel: Engine, by: str) -> None:
        calls = await creates(acceptor, 3)
        with held(panel) as connection:
            if by == "queue":
                rows.lock_vps_queues(connection, [calls[1].vps_id])
            else:
                rows.lock_orders(connection, ["o-1"])
            assert apply_calls(panel, ids(calls)) == "2 applied, 1 queued"
        waiting = operation(panel, calls[1].operation_id)
        assert (waiting["state"], waiting["attempts"]) == ("queued", 0)
        assert waiting["error"] == "waiting: another transaction holds the VPS"
        assert apply_calls(panel, ids(calls)) == "3 applied"
        assert operation(panel, calls[1].operation_id)["error"] is None

    async def test_a_lock_that_is_held_for_a_moment_is_awaited(
        self, acceptor: Acceptor, panel: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = await creates(acceptor, 2)
        with held(panel) as connection:
            rows.lock_vps_queues(connection, [calls[0].vps_id])

            def ends_meanwhile(*arguments: Any) -> Any:
                if arguments[2] is Patience.BRIEF:
                    connection.rollback()
                return load(*arguments)

            monkeypatch.setattr(sets, "load", ends_meanwhile)
            assert apply_calls(panel, ids(calls)) == "2 applied"


async def test_after_a_killed_process_each_call_gets_a_message_of_its_own(acceptor: Acceptor, panel: Engine) -> None:
    calls = await creates(acceptor, 3)
    with panel.begin() as connection:
        assert not any(row.alone for row in connection.execute(CLAIM_FIRST, {"limit": 10}))
    assert apply_calls(panel, ids(calls), again=True) == "3 calls: each gets a message of its own"
    assert states(panel) == ["queued"] * 3
    with panel.begin() as connection:
        assert [row.alone for row in connection.execute(CLAIM_FIRST, {"limit": 10})] == [True] * 3
    for call in calls:
        assert apply_calls(panel, [call.operation_id]) == "applied created creating"


async def test_whoever_waits_is_told_of_each_call(acceptor: Acceptor, panel: Engine) -> None:
    calls = await creates(acceptor, 3)
    raw = panel.raw_connection()
    try:
        connection: Any = raw.driver_connection
        connection.autocommit = True
        connection.execute("LISTEN panel_settled")
        apply_calls(panel, ids(calls))
        told = [int(notice.payload) for notice in connection.notifies(timeout=120, stop_after=3)]
    finally:
        raw.invalidate()
    assert sorted(told) == ids(calls)


OTHER_CALLS = """
INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, applied_at)
SELECT 'sync', 'update', :vps_id, -n, 'sync', '{}', 'superseded', now() FROM generate_series(1, 5000) n
"""


async def test_a_call_is_applied_later_than_those_before_it(acceptor: Acceptor, panel: Engine, owner: Engine) -> None:
    calls = await creates(acceptor, 20)
    updates = [update_call(call.vps_id, status) for status in ("running", "stopped") for call in calls]
    later = [one for one in await acceptor.accept_in_order(updates) if isinstance(one, Accepted)]
    with owner.begin() as connection:  # a join in the order of the table, which is the reverse of theirs
        connection.execute(text(OTHER_CALLS), {"vps_id": calls[0].vps_id})
        for id_ in sorted(ids([*calls, *later]), reverse=True):
            connection.execute(text("UPDATE operations SET publishes = 1 WHERE id = :id"), {"id": id_})
        connection.execute(text("ANALYZE operations"))
    plan = "SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off"
    event.listen(panel, "begin", lambda connection: connection.exec_driver_sql(plan))
    assert apply_calls(panel, ids([*calls, *later])) == "60 applied"
    for call in calls:
        times = [row["applied_at"] for row in journal(panel, call.vps_id) if row["seq"] > 0]
        assert times[0] < times[1] < times[2]
