"""Applying journaled calls: in order, once, whatever the queue made of the messages."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from panel.journal.accept import Acceptor
from panel.journal.writer import MAX_ATTEMPTS, MAX_PER_TRANSACTION, apply_operation
from tests.integration.panel.conftest import accepted, count, database_time
from tests.support.calls import create_call, delete_call, update_call
from tests.support.fleets.world import journal, open_findings, operation, vps_row


def apply(panel: Engine, operation_id: int) -> tuple[str, str]:
    done = apply_operation(panel, operation_id)
    return done.state, done.text


def stored(panel: Engine, vps_id: int) -> dict[str, Any]:
    row = vps_row(panel, vps_id)
    assert row is not None
    return row


class TestOrderOfMessages:
    """A create and two updates: the outcome is the same in whichever order their doorbells ring."""

    @pytest.mark.parametrize("rung", list(itertools.permutations(range(3))))
    async def test_any_order(self, acceptor: Acceptor, panel: Engine, rung: tuple[int, ...]) -> None:
        created = await accepted(acceptor, create_call())
        calls = [
            created,
            await accepted(acceptor, update_call(created.vps_id, "running")),
            await accepted(acceptor, update_call(created.vps_id, "suspended")),
        ]
        for index in rung:
            apply_operation(panel, calls[index].operation_id)
        assert [row["state"] for row in journal(panel, created.vps_id)] == ["applied"] * 3
        assert [row["result"] for row in journal(panel, created.vps_id)] == [
            "created creating",
            "creating -> running",
            "running -> suspended",
        ]
        row = stored(panel, created.vps_id)
        assert (row["status"], row["applied_seq"], row["version"]) == ("suspended", 3, 3)

    async def test_an_update_accepted_before_its_create_is_applied(self, acceptor: Acceptor, panel: Engine) -> None:
        created = await accepted(acceptor, create_call())
        updated = await accepted(acceptor, update_call(created.vps_id, "running"))
        assert apply(panel, updated.operation_id) == ("applied", "applied creating -> running")
        assert operation(panel, created.operation_id)["state"] == "applied"

    async def test_an_earlier_doorbell_applies_no_later_call(self, acceptor: Acceptor, panel: Engine) -> None:
        created = await accepted(acceptor, create_call())
        updated = await accepted(acceptor, update_call(created.vps_id, "running"))
        apply_operation(panel, created.operation_id)
        assert operation(panel, updated.operation_id)["state"] == "queued"
        assert stored(panel, created.vps_id)["status"] == "creating"

    async def test_a_doubled_doorbell_changes_nothing(self, acceptor: Acceptor, panel: Engine) -> None:
        created = await accepted(acceptor, create_call())
        apply_operation(panel, created.operation_id)
        before = stored(panel, created.vps_id)
        assert apply(panel, created.operation_id) == ("applied", "already applied")
        assert stored(panel, created.vps_id) == before

    def test_a_doorbell_of_nothing(self, panel: Engine) -> None:
        assert apply(panel, 4711) == ("unknown", "unknown operation")

    async def test_a_long_lane_is_drained_in_pieces(self, acceptor: Acceptor, panel: Engine) -> None:
        vps_id = (await accepted(acceptor, create_call())).vps_id
        last = 0
        for index in range(MAX_PER_TRANSACTION + 4):
            last = (await accepted(acceptor, update_call(vps_id, ("running", "stopped")[index % 2]))).operation_id
        assert apply_operation(panel, last).state == "queued"
        assert stored(panel, vps_id)["applied_seq"] == MAX_PER_TRANSACTION
        assert apply_operation(panel, last).state == "applied"


class TestDelete:
    """Soft, in the queue's order, never undone by a late call."""

    async def test_leaves_a_tombstone(self, acceptor: Acceptor, panel: Engine) -> None:
        created = await accepted(acceptor, create_call(order_id="o-1"))
        deleted = await accepted(acceptor, delete_call(created.vps_id))
        assert apply(panel, deleted.operation_id) == ("applied", "applied deleted")
        row = stored(panel, created.vps_id)
        assert row["deleted_reason"] == "sync"
        assert row["deleted_at"] == operation(panel, deleted.operation_id)["accepted_at"]

    async def test_an_operation_that_finds_a_tombstone_is_superseded(self, acceptor: Acceptor, panel: Engine) -> None:
        created = await accepted(acceptor, create_call())
        updated = await accepted(acceptor, update_call(created.vps_id, "running"))
        apply_operation(panel, created.operation_id)
        with panel.begin() as connection:  # as a repair would, in between
            connection.execute(text("UPDATE vps SET deleted_at = now(), deleted_reason = 'orphan'"))
        state, _ = apply(panel, updated.operation_id)
        assert state == "superseded"
        assert "tombstone" in operation(panel, updated.operation_id)["reason"]
        assert stored(panel, created.vps_id)["status"] == "creating"

    async def test_a_create_for_the_order_waits_for_the_older_record_s_delete(
        self, acceptor: Acceptor, panel: Engine
    ) -> None:
        old = await accepted(acceptor, create_call(order_id="o-1"))
        apply_operation(panel, old.operation_id)
        deleted = await accepted(acceptor, delete_call(old.vps_id))
        new = await accepted(acceptor, create_call(order_id="o-1", name="new"))
        state, said = apply(panel, new.operation_id)
        assert (state, vps_row(panel, new.vps_id)) == ("queued", None)
        assert f"waiting for the delete of vps={old.vps_id}" in said
        assert operation(panel, new.operation_id)["attempts"] == 0
        apply_operation(panel, deleted.operation_id)
        assert apply(panel, new.operation_id)[0] == "applied"
        assert operation(panel, new.operation_id)["error"] is None
        assert stored(panel, new.vps_id)["order_id"] == "o-1"
        assert stored(panel, old.vps_id)["deleted_at"] is not None


class TestPoison:
    """An operation that can't be stored dies alone, after a bounded number of tries."""

    async def poisoned(self, acceptor: Acceptor, panel: Engine, owner: Engine) -> int:
        """An update that breaks a check: what validation keeps out, written into the journal by hand."""
        created = await accepted(acceptor, create_call())
        apply_operation(panel, created.operation_id)
        updated = await accepted(acceptor, update_call(created.vps_id, "running"))
        with owner.begin() as connection:
            connection.execute(
                text("UPDATE operations SET payload = payload || '{\"ram\": 1}' WHERE id = :id"),
                {"id": updated.operation_id},
            )
        return updated.operation_id

    async def test_is_dead_after_its_last_attempt_and_says_why(
        self, acceptor: Acceptor, panel: Engine, owner: Engine
    ) -> None:
        operation_id = await self.poisoned(acceptor, panel, owner)
        seen = [apply_operation(panel, operation_id).state for _ in range(MAX_ATTEMPTS)]
        assert seen == ["queued"] * (MAX_ATTEMPTS - 1) + ["dead"]
        row = operation(panel, operation_id)
        assert (row["attempts"], row["error"]) == (MAX_ATTEMPTS, "CheckViolation 23514 ck_vps_plan_positive")
        assert row["publish_at"] is None

    async def test_waits_longer_each_time(self, acceptor: Acceptor, panel: Engine, owner: Engine) -> None:
        operation_id = await self.poisoned(acceptor, panel, owner)
        for wait_s in (2, 4, 8):
            before = database_time(panel)
            apply_operation(panel, operation_id)
            after, due_at = database_time(panel), operation(panel, operation_id)["publish_at"]
            assert due_at - after <= timedelta(seconds=wait_s) <= due_at - before

    async def test_a_dead_update_blocks_nothing_after_it(
        self, acceptor: Acceptor, panel: Engine, owner: Engine
    ) -> None:
        operation_id = await self.poisoned(acceptor, panel, owner)
        vps_id = operation(panel, operation_id)["vps_id"]
        later = await accepted(acceptor, update_call(vps_id, "stopped"))
        assert apply_operation(panel, later.operation_id).state == "queued"
        for _ in range(MAX_ATTEMPTS - 1):
            apply_operation(panel, operation_id)
        assert apply(panel, later.operation_id) == ("applied", "applied creating -> stopped")

    async def test_what_follows_a_create_that_died_is_rejected_visibly(
        self, acceptor: Acceptor, panel: Engine, owner: Engine
    ) -> None:
        created = await accepted(acceptor, create_call())
        with owner.begin() as connection:
            connection.execute(text("UPDATE operations SET payload = payload || '{\"ram\": 1}'"))
        updated = await accepted(acceptor, update_call(created.vps_id, "running"))
        for _ in range(MAX_ATTEMPTS):
            apply_operation(panel, created.operation_id)
        assert operation(panel, created.operation_id)["state"] == "dead"
        assert apply_operation(panel, updated.operation_id).state == "rejected"
        assert operation(panel, updated.operation_id)["reason"] == "its create was never applied"


class TestLinks:
    """What a sync call may not take: another record's guest, another record's order, another owner."""

    async def test_a_guest_of_another_live_record_is_accepted_unlinked(self, acceptor: Acceptor, panel: Engine) -> None:
        for name in ("first", "second"):
            one = await accepted(acceptor, create_call(name=name, cluster="main", vmid=100))
            assert apply_operation(panel, one.operation_id).state == "applied"
        assert [(stored(panel, n)["vmid"], stored(panel, n)["link_state"]) for n in (1, 2)] == [
            (100, "pushed"),
            (None, "conflict"),
        ]
        assert open_findings(panel) == [("link-conflict", "vps:2")]

    async def test_an_order_of_another_record_is_not_taken_over(self, acceptor: Acceptor, panel: Engine) -> None:
        first = await accepted(acceptor, create_call(order_id="o-1"))
        second = await accepted(acceptor, create_call())
        taking = await accepted(acceptor, update_call(second.vps_id, "running", order_id="o-1"))
        for done in (first, second, taking):
            assert apply_operation(panel, done.operation_id).state == "applied"
        assert stored(panel, second.vps_id)["order_id"] is None
        assert stored(panel, second.vps_id)["status"] == "running"
        assert open_findings(panel) == [("link-conflict", f"vps:{second.vps_id}")]

    async def test_an_update_that_brings_its_order_claims_it(self, acceptor: Acceptor, panel: Engine) -> None:
        created = await accepted(acceptor, create_call())
        named = await accepted(acceptor, update_call(created.vps_id, "running", order_id="o-1"))
        apply_operation(panel, named.operation_id)
        again = await accepted(acceptor, create_call(order_id="o-1"))
        assert (again.vps_id, again.created) == (created.vps_id, False)
        assert count(panel, "vps") == 1

    async def test_an_update_never_changes_the_owner(self, acceptor: Acceptor, panel: Engine) -> None:
        created = await accepted(acceptor, create_call())
        updated = await accepted(acceptor, update_call(created.vps_id, "running", user_id=6))
        apply_operation(panel, updated.operation_id)
        assert stored(panel, created.vps_id)["user_id"] == 5
        assert open_findings(panel) == [("ownership", f"vps:{created.vps_id}")]


async def test_the_journal_shows_what_changed_and_nothing_else(acceptor: Acceptor, panel: Engine) -> None:
    created = await accepted(acceptor, create_call())
    apply_operation(panel, created.operation_id)
    updated = await accepted(acceptor, update_call(created.vps_id, "running"))
    apply_operation(panel, updated.operation_id)
    row = operation(panel, updated.operation_id)
    assert row["before"] == {"order_state": "pending", "power_state": "unknown", "status": "creating", "version": 1}
    assert row["after"] == {"order_state": "active", "power_state": "running", "status": "running", "version": 2}


async def test_whoever_waits_is_told_when_an_operation_is_finished(acceptor: Acceptor, panel: Engine) -> None:
    created = await accepted(acceptor, create_call())
    raw = panel.raw_connection()
    try:
        connection: Any = raw.driver_connection
        connection.autocommit = True
        connection.execute("LISTEN panel_settled")
        apply_operation(panel, created.operation_id)
        told = [notice.payload for notice in connection.notifies(timeout=120, stop_after=1)]
    finally:
        raw.invalidate()
    assert told == [str(created.operation_id)]
