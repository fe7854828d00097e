"""What operators do: pauses, one VPS now, a restore; and what they are told of deletes by calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from domain.repair_policy.budget import Budget
from panel.journal.restore import restore_vps
from panel.operator_error import OperatorError
from panel.operators.pauses import current_pauses, pause, resume, target_of
from reconcile.decision.subjects import parse_subject
from reconcile.run import run_fast, run_full
from reconcile.users import import_users
from tests.stories.steps import (
    ABSENT,
    Sold,
    converge,
    end_silently,
    execute,
    live,
    record,
    sell,
    sell_converged,
    statuses,
)
from tests.support.bench import Bench


class TestPauses:
    """A paused source is not asked, and nothing is concluded."""

    def test_a_paused_cluster_is_not_read_and_its_records_keep_their_state(self, two_clusters: Bench) -> None:
        world = two_clusters
        sold = sell_converged(world)
        paused_for(world, "proxmox:main")
        world.pve.set_status(sold.vmid, "stopped")
        world.site.set_status(sold.order_id, "suspended", notify=False)
        _, other = world.reconciler().sources
        unasked = replace(world.reconciler(), sources=(NeverAsked("main"), other))
        for _ in range(2):
            world.clock.tick()
            assert "guests:second" in run_full(unasked, trigger="test").counts, "the other cluster goes on"
            assert run_fast(unasked, trigger="test").state == "done"
        assert statuses(world) == {sold.vps_id: "running"}
        assert ("paused", "source:proxmox:main") in world.findings()
        with world.engine.begin() as connection:
            resume(connection, "proxmox:main")
        assert "paused" not in world.finding_classes()
        world.run(2)
        assert statuses(world) == {sold.vps_id: "suspended"}

    def test_a_paused_main_site_is_not_read(self, world: Bench) -> None:
        sold = sell_converged(world)
        paused_for(world, "feed")
        world.site.set_status(sold.order_id, "suspended", notify=False)
        world.pve.set_status(sold.vmid, "stopped")
        unasked = replace(world.reconciler(), feed=NeverAsked())
        for _ in range(2):
            assert run_full(unasked, trigger="test").state == "done"
        assert "a reason" in (import_users(unasked).problem or "")
        assert statuses(world) == {sold.vps_id: "stopped"}, "the guests go on, the order's word waits"

    def test_nothing_runs_while_everything_is_paused(self, world: Bench) -> None:
        paused_for(world, "all")
        unasked = replace(world.reconciler(), feed=NeverAsked(), sources=(NeverAsked("main"),))
        for run in (run_full, run_fast):
            result = run(unasked, trigger="test")
            assert (result.state, result.run_id) == ("paused", None)
            assert "a reason" in result.summary

    def test_a_pause_ends_by_itself(self, world: Bench) -> None:
        sell_converged(world)
        paused_for(world, "all")
        execute(world, "UPDATE pauses SET paused_until = clock_timestamp() WHERE target = 'all'")
        world.run()
        assert "paused" not in world.finding_classes()
        with world.engine.begin() as connection:
            assert current_pauses(connection) == {}

    def test_a_paused_vps_is_read_and_not_written(self, world: Bench) -> None:
        one, other = sell(world, "one"), sell(world, "other")
        converge(world, one, other)
        target = f"vps:{one.vps_id}"
        paused_for(world, target)
        for sold in (one, other):
            world.site.set_status(sold.order_id, "suspended", notify=False)
            world.pve.set_status(sold.vmid, "running")  # the main site had stopped it
        world.run()
        assert statuses(world) == {one.vps_id: "running", other.vps_id: "suspended"}
        assert {("paused", target), ("suspended-but-running", target)} <= world.findings(), "found as ever"
        assert world.results[-1].problems == (), "no source is paused"
        world.pve.set_status(one.vmid, "stopped")
        world.fast(2)
        assert record(world, one.vps_id)["power_state"] == "running"
        world.call("update", id=one.vps_id, status="error")
        world.drain()
        assert statuses(world)[one.vps_id] == "error", "a call of the main site is no run"
        with world.engine.begin() as connection:
            resume(connection, target)
        assert "paused" not in world.finding_classes()
        world.run()
        assert statuses(world)[one.vps_id] == "suspended"

    def test_a_paused_customer_gets_nothing_new_either(self, world: Bench) -> None:
        paused_for(world, "user:5")
        for user_id in (1, 2):
            order = world.site.place_order(user_id=user_id, name=f"of-{user_id}", notify=False)
            world.site.set_status(order.id, "running", notify=False)
        world.run(2)
        assert [row["user_id"] for row in world.vps()] == [6]
        execute(world, "UPDATE pauses SET paused_until = clock_timestamp()")
        world.run()
        assert sorted(row["user_id"] for row in world.vps()) == [5, 6]

    @pytest.mark.parametrize("target", ["vps:999", "user:999"])
    def test_who_is_not_known_is_not_paused(self, world: Bench, target: str) -> None:
        with world.engine.begin() as connection, pytest.raises(OperatorError) as refused:
            pause(connection, target, "why", timedelta(hours=1), "cli:test")
        assert refused.value.fault == "unknown"

    @pytest.mark.parametrize(
        ("reason", "length"), [(" ", timedelta(hours=1)), ("why", timedelta(0)), ("why", timedelta(days=31))]
    )
    def test_refusals(self, world: Bench, reason: str, length: timedelta) -> None:
        with world.engine.begin() as connection, pytest.raises(OperatorError) as refused:
            pause(connection, "all", reason, length, "cli:test")
        assert refused.value.fault == "invalid"

    @pytest.mark.parametrize(
        ("name", "target"),
        [
            ("all", "all"),
            ("feed", "feed"),
            ("main", "proxmox:main"),
            ("proxmox:all", "proxmox:all"),
            ("vps:1", "vps:1"),
        ],
    )
    def test_targets(self, name: str, target: str) -> None:
        assert target_of(name, ["main", "all"]) == target

    @pytest.mark.parametrize("name", ["fra1", "vps:0", "vps:x", "user:", "node:1"])
    def test_an_unknown_target(self, name: str) -> None:
        with pytest.raises(OperatorError, match="neither all, feed, vps:ID"):
            target_of(name, ["main"])


class TestOneSubject:
    """Reconcile one VPS, user or cluster now."""

    def test_only_the_subject_is_repaired(self, world: Bench) -> None:
        one, other = sell(world, "one"), sell(world, "other")
        converge(world, one, other)
        for sold in (one, other):
            world.site.set_status(sold.order_id, "suspended", notify=False)
        world.clock.tick()
        run_full(world.reconciler(), trigger="test", only=parse_subject(f"vps:{one.vps_id}"))
        assert statuses(world) == {one.vps_id: "suspended", other.vps_id: "running"}
        world.run()
        assert statuses(world) == {one.vps_id: "suspended", other.vps_id: "suspended"}

    def test_one_by_one_is_no_way_around_a_limit(self, world: Bench, four_gone: tuple[Sold, ...]) -> None:
        for sold in four_gone:
            result = run_full(world.reconciler(), trigger="test", only=parse_subject(f"vps:{sold.vps_id}"))
            assert result.state == "done"
        assert len(live(world)) == 5


class TestPushedDeletes:
    """The main site's own deletes are never held; a storm of them is told."""

    def test_a_storm_is_alarmed_and_over_with_its_hour(self, world: Bench) -> None:
        gone = [sell(world, f"gone-{n}") for n in range(3)]
        reconciler = replace(world.reconciler(), budget=Budget(pushed_deletes_hour=2))
        for one in gone:
            assert ("delete-storm", "calls:delete") not in world.findings()
            world.call("delete", id=one.vps_id)
            world.drain()
            run_full(reconciler, trigger="test")
        assert live(world) == [], "a call is never held"
        assert ("delete-storm", "calls:delete") in world.findings()
        execute(world, "UPDATE operations SET applied_at = applied_at - interval '61 minutes' WHERE action = 'delete'")
        run_full(reconciler, trigger="test")
        assert ("delete-storm", "calls:delete") not in world.findings()


class TestRestore:
    """Beside story 13: what a restore leaves behind, and when it is refused."""

    @pytest.fixture
    def deleted(self, extended_world: Bench) -> tuple[Bench, Sold]:
        """A record that the reconciler deleted on proof, and another that goes on."""
        world = extended_world
        keep, gone = sell(world, "keep"), sell(world, "gone")
        converge(world, keep, gone)
        end_silently(world, gone)
        world.run(ABSENT)
        assert live(world) == [keep.vps_id]
        return world, gone

    def test_a_restore_is_journaled_with_its_reason(self, deleted: tuple[Bench, Sold]) -> None:
        world, gone = deleted
        restore(world, gone.vps_id)
        (entry,) = world._rows("SELECT * FROM operations WHERE kind = 'operator'")
        assert (entry["action"], entry["source"], entry["reason"]) == (
            "restore",
            "operator",
            "the customer paid after all",
        )
        assert entry["evidence"]["by"] == "cli:test"
        assert entry["before"]["deleted_at"] is not None
        assert entry["after"]["deleted_at"] is None

    def test_the_main_site_reaches_a_restored_record_again(self, deleted: tuple[Bench, Sold]) -> None:
        world, gone = deleted
        assert world.call("update", id=gone.vps_id, status="stopped").status_code == 404
        restore(world, gone.vps_id)
        assert world.call("update", order_id=str(gone.order_id), status="stopped").status_code == 202
        world.drain()
        assert statuses(world)[gone.vps_id] == "stopped"

    @pytest.mark.parametrize(
        ("meanwhile", "why"),
        [
            pytest.param(
                "UPDATE vps SET deleted_at = deleted_at - interval '8 days' WHERE id = :id",
                "more than 7 days",
                id="old",
            ),
            pytest.param("UPDATE vps SET merged_into = :keep WHERE id = :id", "was merged into VPS", id="merged"),
            pytest.param(
                "UPDATE vps SET order_id = (SELECT order_id FROM vps WHERE id = :id) WHERE id = :keep",
                "belongs to VPS",
                id="its order has another record",
            ),
            pytest.param(
                "UPDATE vps SET vmid = (SELECT vmid FROM vps WHERE id = :id) WHERE id = :keep",
                "belongs to VPS",
                id="its guest has another record",
            ),
            pytest.param(
                "UPDATE vps_queues SET last_seq = last_seq + 1 WHERE vps_id = :id",
                "waits to be applied",
                id="in flight",
            ),
        ],
    )
    def test_refusals(self, deleted: tuple[Bench, Sold], meanwhile: str, why: str) -> None:
        world, gone = deleted
        (keep,) = live(world)
        ids = {name: value for name, value in {"id": gone.vps_id, "keep": keep}.items() if f":{name}" in meanwhile}
        execute(world, meanwhile, **ids)
        before = record(world, gone.vps_id)
        with pytest.raises(OperatorError, match=why) as refused:
            restore(world, gone.vps_id)
        assert refused.value.fault == "conflict"
        assert record(world, gone.vps_id) == before

    def test_only_a_deleted_record_is_restored_and_only_with_a_reason(self, deleted: tuple[Bench, Sold]) -> None:
        world, _ = deleted
        for vps_id, reason, fault in (
            (live(world)[0], "why", "conflict"),
            (999, "why", "unknown"),
            (1, " ", "invalid"),
        ):
            with pytest.raises(OperatorError) as refused:
                restore(world, vps_id, reason)
            assert refused.value.fault == fault


def paused_for(world: Bench, target: str, length: timedelta = timedelta(hours=1)) -> None:
    with world.engine.begin() as connection:
        pause(connection, target, "a reason", length, "cli:test")


def restore(world: Bench, vps_id: int, reason: str = "the customer paid after all") -> None:
    with world.engine.begin() as connection:
        restore_vps(connection, vps_id, reason, "cli:test")


@dataclass(frozen=True, slots=True)
class NeverAsked:
    """A source that must not be asked anything."""

    cluster: str = "none"
    name: str = "orders"
    names_are_authoritative: bool = True

    def __getattr__(self, verb: str) -> Any:
        raise AssertionError(f"a paused source was asked: {verb}")
