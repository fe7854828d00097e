"""What waits for an operator: sets that exceed a limit, what nothing proves, classes that the policy holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from domain.repair_policy.budget import Budget
from panel.operator_error import OperatorError
from panel.operators.holds import Decision
from reconcile.run import run_full
from tests.stories.steps import (
    ABSENT,
    Sold,
    converge,
    decide,
    end_silently,
    execute,
    held_sets,
    live,
    record,
    sell,
    sell_converged,
    statuses,
)
from tests.support.bench import Bench, bench
from tests.support.databases import Database


class TestHeldSets:
    """A set that exceeds a limit waits for an operator, and a decision is for exactly its items."""

    def test_an_approved_set_is_applied_by_the_next_run(self, world: Bench, four_gone: tuple[Sold, ...]) -> None:
        (held,) = held_sets(world)
        assert (held.scope, len(held.items), held.decision) == ("deletes:node:main/pve1", 4, None)
        assert ("held", "scope:deletes:node:main/pve1") in world.findings()
        decide(world, held.hash[:8], Decision.APPROVED)
        assert held_sets(world) == []
        result = world.run()
        assert live(world) == [four_gone[0].vps_id]
        assert result.outcome is not None
        assert all("confirmed_guest" in r["evidence"] for r in world.repairs() if r["action"] == "delete")
        assert ("held", "scope:deletes:node:main/pve1") not in world.findings()

    def test_an_item_that_changed_drops_out_and_the_rest_stays_approved(
        self, world: Bench, four_gone: tuple[Sold, ...]
    ) -> None:
        (held,) = held_sets(world)
        decide(world, held.hash, Decision.APPROVED)
        moved = four_gone[1].vps_id
        execute(world, "UPDATE vps SET version = version + 1 WHERE id = :id", id=moved)
        nothing_more = replace(world.reconciler(), budget=Budget(deletes_run=0))
        run_full(nothing_more, trigger="test")
        assert live(world) == [four_gone[0].vps_id, moved]
        (asked,) = held_sets(world)
        assert [item["subject"] for item in asked.items] == [f"vps:{moved}"]

    def test_an_approval_is_confirmed_all_the_same(self, world: Bench, four_gone: tuple[Sold, ...]) -> None:
        (held,) = held_sets(world)
        decide(world, held.hash, Decision.APPROVED)
        world.site.set_status(four_gone[1].order_id, "running", notify=False)
        world.run()
        assert live(world) == [four_gone[0].vps_id, four_gone[1].vps_id]

    @pytest.mark.usefixtures("four_gone")
    def test_a_rejected_set_stays_and_is_not_asked_again(self, world: Bench) -> None:
        (held,) = held_sets(world)
        decide(world, held.hash, Decision.REJECTED)
        world.run(2)
        assert len(live(world)) == 5
        assert held_sets(world) == []
        assert world.finding_classes() == {"rejected"}
        decide(world, held.hash, Decision.APPROVED)
        world.run()
        assert len(live(world)) == 1, "the last word counts"

    @pytest.mark.parametrize(
        "since",
        [
            pytest.param("UPDATE vps SET version = version + 1", id="a call changed the record"),
            pytest.param("UPDATE holds SET decided_at = decided_at - interval '31 days'", id="a month ago"),
        ],
    )
    @pytest.mark.usefixtures("four_gone")
    def test_what_was_rejected_never_happens_by_itself(self, world: Bench, since: str) -> None:
        (held,) = held_sets(world)
        decide(world, held.hash, Decision.REJECTED)
        execute(world, since)
        unlimited = replace(world.reconciler(), budget=Budget(deletes_run=99, deletes_node_min=99, deletes_user_min=99))
        run_full(unlimited, trigger="test")
        assert len(live(world)) == 5
        (asked,) = held_sets(world)
        assert (asked.scope, len(asked.items)) == ("rejected-before", 4)
        decide(world, asked.hash, Decision.APPROVED)
        world.run()
        assert len(live(world)) == 1, "once approved it happens"

    @pytest.mark.usefixtures("four_gone")
    def test_an_approval_ends_after_a_day(self, world: Bench) -> None:
        (held,) = held_sets(world)
        decide(world, held.hash, Decision.APPROVED)
        execute(world, "UPDATE holds SET decided_at = decided_at - interval '25 hours'")
        world.run()
        assert len(live(world)) == 5
        assert [h.hash for h in held_sets(world)] == [held.hash]

    @pytest.mark.parametrize(
        ("prefix", "fault"),
        [("0" * 7, "invalid"), ("z" * 12, "invalid"), ("0" * 64, "unknown"), ("%" * 8, "invalid")],
    )
    def test_what_is_no_held_set(self, world: Bench, prefix: str, fault: str) -> None:
        with pytest.raises(OperatorError) as refused:
            decide(world, prefix, Decision.APPROVED)
        assert refused.value.fault == fault


class TestByApproval:
    """What nothing proves is deleted by an operator's word for it alone, and what can be looked up is, all the same."""

    @pytest.fixture
    def unread(self, world: Bench) -> tuple[Bench, Sold]:
        """An order that ended, whose guest is gone, and nobody ever read who the guest was."""
        sell_converged(world, "keep")
        sold = sell(world, "secret")
        world.pve.forbid_config(sold.vmid)
        world.run()
        world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
        world.pve.remove_guest(sold.vmid)
        world.run(ABSENT + 1)
        assert ("delete-held", f"vps:{sold.vps_id}") in world.findings()
        return world, sold

    def test_an_identity_that_was_never_read(self, unread: tuple[Bench, Sold]) -> None:
        world, sold = unread
        (held,) = held_sets(world)
        assert (held.scope, held.by_approval) == (f"by-approval:vps:{sold.vps_id}", True)
        assert "held" not in world.finding_classes(), "its own finding says it"
        world.run(2)
        assert sold.vps_id in live(world)
        decide(world, held.hash, Decision.APPROVED)
        world.run()
        assert sold.vps_id in live(world)
        assert ("not-confirmed", f"vps:{sold.vps_id}") in world.findings(), "403 is no word of an absent guest"
        world.pve.forbid_config(sold.vmid, forbidden=False)
        world.run()
        assert sold.vps_id not in live(world)
        (deleted,) = (r for r in world.repairs() if r["action"] == "delete")
        assert {"confirmed_guest", "confirmed_order"} <= set(deleted["evidence"])
        assert held_sets(world) == []

    def test_a_record_of_which_nothing_is_known(self, extended_world: Bench) -> None:
        world = extended_world
        sell_converged(world, "keep")
        ids = [world.call("create", **UNKNOWN, name=name).json()["vps"]["id"] for name in ("own-1", "own-2")]
        world.drain()
        world.run(2)
        assert {h.scope for h in held_sets(world)} == {f"by-approval:vps:{id_}" for id_ in ids}
        decide(world, next(h.hash for h in held_sets(world) if h.scope.endswith(f":{ids[0]}")), Decision.APPROVED)
        decide(world, next(h.hash for h in held_sets(world) if h.scope.endswith(f":{ids[1]}")), Decision.REJECTED)
        world.run(2)
        assert ids[0] not in live(world)
        assert ids[1] in live(world)
        assert held_sets(world) == []


UNKNOWN: dict[str, Any] = {
    "user_id": 5, "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian", "status": "running",
    "hypervisor": "vmware",
}  # fmt: skip


class TestPolicy:
    """What is done with a class of drift, by REPAIR_POLICY."""

    def test_a_held_class_waits_for_its_approval(self, database: Database, engine: Engine) -> None:
        with bench(database, engine, repair_policy={"missed-delete": "hold"}) as world:
            keep, gone = sell(world, "keep"), sell(world, "gone")
            converge(world, keep, gone)
            end_silently(world, gone)
            world.run(ABSENT + 1)
            (held,) = held_sets(world)
            assert (held.scope, live(world)) == ("class:missed-delete", [keep.vps_id, gone.vps_id])
            decide(world, held.hash, Decision.APPROVED)
            world.run()
            assert live(world) == [keep.vps_id]

    @pytest.mark.parametrize("how", ["hold", "ignore"])
    def test_a_panel_that_only_looks_on_changes_no_record(self, database: Database, engine: Engine, how: str) -> None:
        with bench(database, engine, repair_policy={"all": how}) as world:
            sold, gone = sell(world, "web-01"), sell(world, "web-02")
            lost = world.site.place_order(user_id=1, name="web-03", notify=False)
            world.site.set_status(lost.id, "running", notify=False)
            before = world.every_vps()
            world.site.set_status(sold.order_id, "suspended", notify=False)
            end_silently(world, gone)
            world.run(ABSENT + 1)
            world.fast(2)
            assert world.every_vps() == before
            assert world.repairs() == []
            found = {one.scope for one in held_sets(world)}
            assert ({"class:link", "class:missed-create"} <= found) if how == "hold" else found == set()
            assert world.call("update", id=sold.vps_id, status="stopped").status_code == 202
            world.drain()
            assert statuses(world)[sold.vps_id] == "stopped", "calls are applied as ever"

    def test_an_ignored_class_is_left_alone(self, database: Database, engine: Engine) -> None:
        with bench(database, engine, repair_policy={"plan": "ignore"}) as world:
            sold = sell_converged(world)
            world.site.change_order(sold.order_id, cpu=8)
            world.site.set_status(sold.order_id, "suspended", notify=False)
            result = world.run(2)
            assert (record(world, sold.vps_id)["cpu"], statuses(world)) == (2, {sold.vps_id: "suspended"})
            assert result.counts["ignored"] == 1
            assert held_sets(world) == []
