"""Whose an order is: a claim leads to a VPS only while that VPS has the order, or is about to get it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.changes import Create, Link, Merge
from panel.journal.accept import Acceptor
from panel.journal.repairs import NotWritten, Written
from panel.journal.restore import restore_vps
from panel.journal.writer import apply_operation
from panel.records.reads import records_of_order
from tests.integration.panel.conftest import accepted, begin_run, decided_on, refused, write
from tests.support.calls import PLAN, create_call, delete_call, update_call
from tests.support.fleets.world import journal, open_findings, operation, vps_row
from tests.unit.reconcile.worlds import order

WHY: dict[str, Any] = {"source": "orders", "reason": "a test says so"}


async def made(acceptor: Acceptor, panel: Engine, **payload: Any) -> int:
    """A record, applied."""
    created = await accepted(acceptor, create_call(**payload))
    apply_operation(panel, created.operation_id)
    return created.vps_id


def stored(panel: Engine, vps_id: int) -> dict[str, Any]:
    row = vps_row(panel, vps_id)
    assert row is not None
    return row


def linked(panel: Engine, vps_id: int, version: int, order_id: str) -> Written | NotWritten:
    """A run gives the record this order."""
    values = {"order_id": order_id, "order_linked_once": True}
    return write(panel, begin_run(panel), Link(**WHY, record=decided_on(vps_id, version), values=values))


def created_for(panel: Engine, order_id: str) -> Written | NotWritten:
    """A run makes the record of an order."""
    sold = {"name": PLAN["name"], "cpu": PLAN["cpu"], "ram_mb": PLAN["ram"], "disk_gb": PLAN["disk"], "os": PLAN["os"]}
    states = {"order_state": "active", "power_state": "running"}
    whose = {"user_id": PLAN["user_id"], "hypervisor": PLAN["hypervisor"], "order_id": order_id}
    change = Create(**WHY, order=order(order_id=order_id, mapped_at=None), values=whose | sold | states)
    return write(panel, begin_run(panel), change)


class TestFormerOrder:
    """VPS 1 was order A's and is order B's by now. Calls for A, late or repeated, reach nothing of B."""

    @pytest.fixture
    async def vps_id(self, acceptor: Acceptor, panel: Engine) -> int:
        vps_id = await made(acceptor, panel, order_id="A", status="running")
        assert isinstance(linked(panel, vps_id, 1, "B"), Written)
        return vps_id

    async def test_calls_by_it_find_no_vps(self, acceptor: Acceptor, panel: Engine, vps_id: int) -> None:
        before = stored(panel, vps_id)
        for call in (delete_call(None, order_id="A"), update_call(None, "suspended", order_id="A")):
            late = await refused(acceptor, call)
            assert (late.status_code, late.code) == (404, "vps_unknown")
            assert late.message == "VPS of order A does not exist in the panel"
        assert stored(panel, vps_id) == before
        assert len(journal(panel, vps_id)) == 2

    async def test_a_create_of_it_is_a_new_vps(self, acceptor: Acceptor, panel: Engine, vps_id: int) -> None:
        created = await accepted(acceptor, create_call(order_id="A"))
        assert created.created
        assert created.vps_id != vps_id
        assert apply_operation(panel, created.operation_id).state == "applied"
        deleted = await accepted(acceptor, delete_call(None, order_id="A"))
        assert deleted.vps_id == created.vps_id
        assert apply_operation(panel, deleted.operation_id).state == "applied"
        assert stored(panel, vps_id)["deleted_at"] is None
        assert (await accepted(acceptor, update_call(None, order_id="B"))).vps_id == vps_id

    async def test_a_delete_that_names_the_vps_too_is_refused(
        self, acceptor: Acceptor, panel: Engine, vps_id: int
    ) -> None:
        late = await refused(acceptor, delete_call(vps_id, order_id="A"))
        assert (late.status_code, late.code) == (404, "vps_unknown")
        why = f"VPS {vps_id} belongs to order B, not to order A; nothing was changed. To delete it, send its id alone"
        assert late.message == why
        assert stored(panel, vps_id)["deleted_at"] is None
        for call in (delete_call(vps_id, order_id="B"), delete_call(vps_id)):
            assert (await accepted(acceptor, call)).vps_id == vps_id

    async def test_it_may_have_a_record_again(self, panel: Engine, vps_id: int) -> None:
        written = created_for(panel, "A")
        assert isinstance(written, Written)
        assert written.vps_id != vps_id

    async def test_its_deleted_record_may_come_back(self, acceptor: Acceptor, panel: Engine) -> None:
        """VPS 2 was A's and was deleted; then VPS 3 was A's for a while."""
        gone = await made(acceptor, panel, order_id="A2")
        apply_operation(panel, (await accepted(acceptor, delete_call(gone))).operation_id)
        later = await made(acceptor, panel, order_id="A2")
        assert isinstance(linked(panel, later, 1, "C"), Written)
        with panel.begin() as connection:
            restore_vps(connection, gone, "it was a mistake", "ann")
        assert (await accepted(acceptor, update_call(None, order_id="A2"))).vps_id == gone

    async def test_a_merge_hands_on_no_claim_of_another_order(
        self, acceptor: Acceptor, panel: Engine, vps_id: int
    ) -> None:
        survivor = await made(acceptor, panel)
        change = Merge(**WHY, record=decided_on(vps_id, 2), survivor=decided_on(survivor, 1))
        assert isinstance(write(panel, begin_run(panel), change), Written)
        assert (await refused(acceptor, delete_call(None, order_id="A"))).code == "vps_unknown"
        assert (await accepted(acceptor, update_call(None, order_id="B"))).vps_id == survivor

    async def test_a_delete_that_was_journaled_before_is_not_applied(self, acceptor: Acceptor, panel: Engine) -> None:
        """Whatever came between: the worker looks at the order once more."""
        vps_id = await made(acceptor, panel, order_id="A3", status="running")
        deleted = await accepted(acceptor, delete_call(None, order_id="A3"))
        with panel.begin() as connection:
            connection.execute(text("UPDATE vps SET order_id = 'B3' WHERE id = :id"), {"id": vps_id})
        assert apply_operation(panel, deleted.operation_id).state == "dead"
        assert operation(panel, deleted.operation_id)["error"] == (
            f"VPS {vps_id} belongs to order B3, but the delete is for order A3"
        )
        assert stored(panel, vps_id)["deleted_at"] is None
        updated = await accepted(acceptor, update_call(vps_id, "stopped"))
        assert apply_operation(panel, updated.operation_id).state == "applied"


async def test_a_run_takes_no_order_whose_own_call_waits(acceptor: Acceptor, panel: Engine) -> None:
    """VPS 1 has no order. Before a run links it with order 7041, the create of that order is accepted."""
    first = await made(acceptor, panel)
    call = await accepted(acceptor, create_call(order_id="7041"))
    why = f"order 7041 is claimed by VPS {call.vps_id}: a call that brings it waits to be applied"
    assert linked(panel, first, 1, "7041") == NotWritten(why)
    assert apply_operation(panel, call.operation_id).state == "applied"
    assert stored(panel, first)["order_id"] is None
    assert stored(panel, call.vps_id)["order_id"] == "7041"


class TestUpdateThatNamesAnOrder:
    """It brings a record its order from the moment it is accepted; and never takes one from another live record."""

    async def test_claims_it_before_any_worker_came(self, acceptor: Acceptor, panel: Engine, pool: AsyncEngine) -> None:
        vps_id = (await accepted(acceptor, create_call())).vps_id
        named = await accepted(acceptor, update_call(vps_id, order_id="B"))
        assert named.record["order_id"] == "B"
        assert [row["id"] for row in await records_of_order(pool, "B")] == [vps_id]
        again = await accepted(acceptor, create_call(order_id="B"))
        assert (again.created, again.vps_id) == (False, vps_id)
        assert (await accepted(acceptor, update_call(None, "stopped", order_id="B"))).vps_id == vps_id
        apply_operation(panel, journal(panel, vps_id)[-1]["id"])
        assert {row["state"] for row in journal(panel, vps_id)} == {"applied"}
        assert stored(panel, vps_id)["order_id"] == "B"

    async def test_claims_it_in_its_create_s_own_batch(self, acceptor: Acceptor, panel: Engine) -> None:
        vps_id = await made(acceptor, panel)
        named, again = await asyncio.gather(
            accepted(acceptor, update_call(vps_id, order_id="B")), accepted(acceptor, create_call(order_id="B"))
        )
        assert (named.vps_id, again.vps_id, again.created) == (vps_id, vps_id, False)

    async def test_a_run_does_not_take_it_meanwhile(self, acceptor: Acceptor, panel: Engine) -> None:
        first, second = await made(acceptor, panel), await made(acceptor, panel)
        named = await accepted(acceptor, update_call(second, order_id="B"))
        for written in (linked(panel, first, 1, "B"), created_for(panel, "B")):
            assert isinstance(written, NotWritten)
            assert f"order B is claimed by VPS {second}" in written.why
        assert apply_operation(panel, named.operation_id).state == "applied"
        assert stored(panel, second)["order_id"] == "B"

    async def test_an_order_that_a_live_record_has_stays_there(self, acceptor: Acceptor, panel: Engine) -> None:
        first, second = await made(acceptor, panel, order_id="A"), await made(acceptor, panel)
        answer = await accepted(acceptor, update_call(second, order_id="A"))
        kept = f"VPS {second} is being updated. Order A stays with VPS {first}, which is not deleted yet"
        assert (answer.record["order_id"], answer.message) == (None, kept)
        apply_operation(panel, answer.operation_id)
        assert (await accepted(acceptor, update_call(None, order_id="A"))).vps_id == first
        gone = await accepted(acceptor, delete_call(None, order_id="A"))
        assert gone.vps_id == first
        # As long as the delete waits, the record lives.
        apply_operation(panel, (await accepted(acceptor, update_call(second, order_id="A"))).operation_id)
        assert stored(panel, second)["order_id"] is None
        again = await accepted(acceptor, delete_call(None, order_id="A"))
        assert (again.vps_id, again.created) == (first, False)
        assert open_findings(panel) == [("link-conflict", f"vps:{second}")]

    async def test_a_tombstone_keeps_no_order(self, acceptor: Acceptor, panel: Engine) -> None:
        """VPS 1 of order A was deleted. The order goes on with VPS 2."""
        first = await made(acceptor, panel, order_id="A")
        apply_operation(panel, (await accepted(acceptor, delete_call(first))).operation_id)
        second = await made(acceptor, panel)
        named = await accepted(acceptor, update_call(second, order_id="A"))
        assert apply_operation(panel, named.operation_id).state == "applied"
        assert stored(panel, second)["order_id"] == "A"
        assert open_findings(panel) == []
        deleted = await accepted(acceptor, delete_call(None, order_id="A"))
        assert (deleted.vps_id, deleted.created) == (second, True)

    async def test_a_record_keeps_the_order_that_it_has_and_says_so(self, acceptor: Acceptor, panel: Engine) -> None:
        vps_id = await made(acceptor, panel, order_id="A")
        named = await accepted(acceptor, update_call(vps_id, order_id="B"))
        assert named.record["order_id"] == "A"
        assert named.message == (
            f"VPS {vps_id} is being updated. It keeps order A: only a run gives it another, as the order feed says"
        )
        assert apply_operation(panel, named.operation_id).state == "applied"
        assert (stored(panel, vps_id)["order_id"], stored(panel, vps_id)["status"]) == ("A", "running")
        with panel.connect() as connection:
            reason = connection.scalar(text("SELECT reason FROM findings WHERE class = 'link-conflict'"))
        assert reason == (
            f"an update names order B, but VPS {vps_id} belongs to order A; it keeps that order. If order B has"
            " followed order A, let the order feed name this VPS for order B: a run links it then"
        )
        assert (await refused(acceptor, update_call(None, order_id="B"))).code == "vps_unknown"
