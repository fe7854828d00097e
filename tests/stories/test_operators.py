"""What operators decide: held sets, pauses, one VPS now, the policy of a class, a restore."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from panel.holds import Decision, HeldSet, decide_hold, list_holds
from panel.operators import OperatorError
from panel.pauses import current_pauses, pause, resume, target_of
from panel.restore import restore_vps
from reconcile.gate import Budget
from reconcile.run import run_fast, run_full
from reconcile.subjects import parse_subject
from reconcile.users import import_users
from tests.stories.steps import Sold, execute, record, sell, settle, settled, statuses
from tests.support.bench import Bench, bench
from tests.support.databases import Database

ABSENT = 3  # runs until an absence is proven


def end_silently(world: Bench, *sold: Sold) -> None:
    """Orders end and guests go, and no call says so."""
    for one in sold:
        world.site.cancel_order(one.order_id, remove_guest=False, notify=False)
        world.pve.remove_guest(one.vmid)


def held_sets(world: Bench) -> list[HeldSet]:
    with world.engine.connect() as connection:
        return list_holds(connection)


def decide(world: Bench, prefix: str, decision: Decision) -> HeldSet:
    with world.engine.begin() as connection:
        return decide_hold(connection, prefix, decision, "cli:test")


def live(world: Bench) -> list[int]:
    return [row["id"] for row in world.vps()]


@pytest.fixture
def four_gone(world: Bench) -> tuple[Sold, ...]:
    """Five records, of which four are due to be deleted: more than one customer may lose in a run."""
    keep = sell(world, "keep")
    gone = tuple(sell(world, f"gone-{n}") for n in range(4))
    settle(world, keep, *gone)
    end_silently(world, *gone)
    world.run(ABSENT)
    assert len(live(world)) == 5, "held"
    return (keep, *gone)


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
        settled(world, "keep")
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
        settled(world, "keep")
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


class TestPauses:
    """A paused source is not asked, and nothing is concluded."""

    def test_a_paused_cluster_is_not_read_and_its_records_keep_their_state(self, two_clusters: Bench) -> None:
        world = two_clusters
        sold = settled(world)
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
        sold = settled(world)
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
        settled(world)
        paused_for(world, "all")
        execute(world, "UPDATE pauses SET paused_until = clock_timestamp() WHERE target = 'all'")
        world.run()
        assert "paused" not in world.finding_classes()
        with world.engine.begin() as connection:
            assert current_pauses(connection) == {}

    def test_a_paused_vps_is_read_and_not_written(self, world: Bench) -> None:
        one, other = sell(world, "one"), sell(world, "other")
        settle(world, one, other)
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
        settle(world, one, other)
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


class TestPolicy:
    """What is done with a class of drift, by REPAIR_POLICY."""

    def test_a_held_class_waits_for_its_approval(self, database: Database, engine: Engine) -> None:
        with bench(database, engine, repair_policy={"missed-delete": "hold"}) as world:
            keep, gone = sell(world, "keep"), sell(world, "gone")
            settle(world, keep, gone)
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
            sold = settled(world)
            world.site.change_order(sold.order_id, cpu=8)
            world.site.set_status(sold.order_id, "suspended", notify=False)
            result = world.run(2)
            assert (record(world, sold.vps_id)["cpu"], statuses(world)) == (2, {sold.vps_id: "suspended"})
            assert result.counts["ignored"] == 1
            assert held_sets(world) == []


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
        settle(world, keep, gone)
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
                "UPDATE lanes SET last_seq = last_seq + 1 WHERE vps_id = :id", "waits to be applied", id="in flight"
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
