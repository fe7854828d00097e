"""Stories of states, times and places: what is shown, and when it may change."""

from __future__ import annotations

from datetime import timedelta

from lab.simulators.main_site.faults import CallFaultKind, FeedFaultKind
from panel.operators.findings import unsent_alarms
from tests.stories.steps import converge, execute, last_repair, record, repairs_since, sell, sell_converged, statuses
from tests.support.bench import Bench


def test_story_03_a_suspended_order_stays_suspended_whatever_its_guest_does(world: Bench) -> None:
    sold = sell_converged(world)
    world.site.set_status(sold.order_id, "suspended", notify=False)
    world.run(2)
    assert statuses(world) == {sold.vps_id: "suspended"}
    world.pve.set_status(sold.vmid, "running")
    for _ in range(3):
        world.fast()
        world.run()
        assert statuses(world) == {sold.vps_id: "suspended"}
    assert ("suspended-but-running", f"vps:{sold.vps_id}") in world.findings()
    assert record(world, sold.vps_id)["power_state"] == "running", "the facts are kept apart"


def test_story_04_a_migrated_guest_is_an_update(world: Bench) -> None:
    sold = sell_converged(world)
    world.pve.migrate(sold.vmid, "pve3")
    world.run()
    row = record(world, sold.vps_id)
    assert (row["node"], row["status"], row["link_state"]) == ("pve3", "running", "verified")
    (repair,) = [r for r in world.repairs() if "moved from node" in r["reason"]]
    assert repair["action"] == "update"
    world.run(4)
    assert record(world, sold.vps_id)["deleted_at"] is None


def test_story_04_an_address_that_changed_without_a_call_is_repaired(world: Bench) -> None:
    """The main site gave the machine another IPv6 address, and its call was lost."""
    first, second = "2001:db8::1", "2001:db8::2"
    sold = sell_converged(world, ip6_address=first)
    other = sell_converged(world, "web-02")
    assert record(world, sold.vps_id)["ip6_address"] == first, "its create said so"
    agreed = world.run().plan
    assert agreed is not None
    assert agreed.changes == (), "record and order agree"
    before = last_repair(world)
    world.site.change_order(sold.order_id, ip6_address=second)
    world.run()
    assert record(world, sold.vps_id)["ip6_address"] == second
    (repair,) = repairs_since(world, before)
    assert (repair["before"]["ip6_address"], repair["after"]["ip6_address"]) == (first, second)
    assert repair["reason"] == f"order {sold.order_id} says otherwise of ip6_address"
    (shown,) = [one for one in world.client_sees(5) if one["id"] == sold.vps_id]
    assert shown["ip6_address"] == second
    assert record(world, other.vps_id)["ip6_address"] is None


def test_story_05_a_guest_that_moves_to_another_cluster_is_relinked_by_its_uuid(two_clusters: Bench) -> None:
    world = two_clusters
    keep, sold = sell(world, "keep"), sell(world, "mover")
    converge(world, keep, sold)
    guest = world.pve.find_guest(sold.vmid)
    assert guest is not None
    world.clusters["second"].add_guest(300, name="mover", uuid=guest.uuid, status="stopped")
    world.run(2)
    assert ("moving", "guest:second/300") in world.findings()
    assert record(world, sold.vps_id)["cluster"] == "main"
    world.pve.remove_guest(sold.vmid)
    world.clusters["second"].set_status(300, "running")
    world.run(3)
    row = record(world, sold.vps_id)
    assert (row["cluster"], row["vmid"], row["status"], row["deleted_at"]) == ("second", 300, "running", None)
    assert "moving" not in world.finding_classes()


def test_story_05_a_machine_that_stays_in_two_clusters_is_a_copy_and_is_left_alone(two_clusters: Bench) -> None:
    world = two_clusters
    keep, sold = sell(world, "keep"), sell(world, "mover")
    converge(world, keep, sold)
    guest = world.pve.find_guest(sold.vmid)
    assert guest is not None
    world.clusters["second"].add_guest(300, name="mover", uuid=guest.uuid, status="stopped")
    world.run(2)
    assert ("moving", "guest:second/300") in world.findings()
    execute(world, "UPDATE guests SET moving_since = moving_since - interval '2 hours'")
    before = record(world, sold.vps_id)
    world.pve.set_status(sold.vmid, "stopped")
    world.fast(2)
    world.run(2)
    alarms = world._rows("SELECT class, subject FROM findings WHERE resolved_at IS NULL AND severity = 'alarm'")
    assert alarms == [{"class": "duplicate-fingerprint", "subject": "guest:second/300"}]
    assert "moving" not in world.finding_classes()
    after = record(world, sold.vps_id)
    assert (after["version"], after["power_state"]) == (before["version"], "running"), "which is the customer's?"
    world.clusters["second"].remove_guest(300)
    world.run(3)  # one read without it may be a list that leaves it out
    assert record(world, sold.vps_id)["status"] == "stopped"
    assert world.finding_classes() == set()


def test_story_06_an_ended_order_keeps_its_guest_for_a_while(world: Bench) -> None:
    keep, sold = sell(world, "keep"), sell(world, "leaving")
    converge(world, keep, sold)
    world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
    world.run(5)
    assert record(world, sold.vps_id)["deleted_at"] is None
    (finding,) = world._rows("SELECT class, severity FROM findings WHERE resolved_at IS NULL")
    assert finding == {"class": "ended-but-running", "severity": "info"}
    execute(
        world, "UPDATE findings SET acknowledged_by = 'ann', acknowledged_at = now(), snoozed_until = now() + '9 d'"
    )
    execute(world, "UPDATE orders_seen SET state_since = state_since - interval '8 days'")
    world.run()
    (finding,) = world._rows("SELECT class, severity FROM findings WHERE resolved_at IS NULL")
    assert finding == {"class": "ended-but-running", "severity": "alarm"}, "kept for longer than is usual"
    with world.engine.connect() as connection:
        assert [found.severity for found, _ in unsent_alarms(connection)] == ["alarm"], "what was snoozed was no alarm"
    world.pve.remove_guest(sold.vmid)
    world.run(2)
    assert record(world, sold.vps_id)["deleted_at"] is None, "two absences are no proof"
    world.run()
    assert record(world, sold.vps_id)["deleted_at"] is not None
    assert world.finding_classes() == set()


def test_story_08_a_main_site_that_keeps_no_panel_id_finds_its_records_by_order_id(extended_world: Bench) -> None:
    world = extended_world
    world.site.fault_calls(CallFaultKind.LOSE_ANSWER, times=None)
    lost = world.site.place_order(user_id=1, name="lost", notify=False)
    world.site.set_status(lost.id, "running", notify=False)
    world.run()
    (made,) = world.vps()
    assert world.site.get_order(lost.id).panel_vps_id is None
    world.site.set_status(lost.id, "stopped")
    world.drain()
    assert statuses(world) == {made["id"]: "stopped"}, "an update by order_id reaches the repaired record"
    world.run(2)
    assert statuses(world) == {made["id"]: "stopped"}
    world.site.cancel_order(lost.id)
    world.drain()
    assert world.vps() == []


def test_story_11_a_pushed_delete_is_not_undone_by_a_feed_that_lags(world: Bench) -> None:
    keep, sold = sell(world, "keep"), sell(world, "gone")
    converge(world, keep, sold)
    world.with_policy(deleted_alive_grace=timedelta(minutes=3))
    world.site.freeze_feed()
    world.site.cancel_order(sold.order_id, remove_guest=False)
    world.drain()
    assert record(world, sold.vps_id)["deleted_at"] is not None
    world.run(5)
    assert [r["id"] for r in world.vps()] == [keep.vps_id], "no resurrection"
    assert world.finding_classes() == set(), "the reads began less than the grace after the delete"
    world.site.freeze_feed(frozen=False)
    world.site.set_status(sold.order_id, "running", notify=False)
    execute(world, "UPDATE vps SET deleted_at = deleted_at - interval '4 minutes' WHERE deleted_at IS NOT NULL")
    world.run(2)
    assert [r["id"] for r in world.vps()] == [keep.vps_id]
    assert ("deleted-but-alive", f"vps:{sold.vps_id}") in world.findings()


def test_story_12_a_pushed_running_does_not_flap(world: Bench) -> None:
    sold = sell_converged(world)
    world.site.set_status(sold.order_id, "stopped")
    world.drain()
    world.with_policy(power_grace=timedelta(hours=1))
    world.call("update", id=sold.vps_id, status="running")
    world.drain()
    for _ in range(4):
        world.fast()
        world.run()
        assert statuses(world) == {sold.vps_id: "running"}, "the grace of a pushed state"
    world.with_policy(power_grace=timedelta(0))
    world.call("update", id=sold.vps_id, status="running")
    world.drain()
    world.run()
    assert statuses(world) == {sold.vps_id: "running"}, "one read after the call is not enough"
    world.run()
    assert statuses(world) == {sold.vps_id: "stopped"}
    writes = len(world.repairs())
    world.run(3)
    assert len(world.repairs()) == writes


def test_story_14_clocks_two_hours_apart_change_no_decision(world: Bench) -> None:
    ahead = sell_converged(world, "ahead")
    for skew in (7200.0, -7200.0):
        world.site.skew_clock(skew)
        world.site.set_status(ahead.order_id, "suspended", notify=False)
        world.run()
        assert statuses(world) == {ahead.vps_id: "suspended"}, skew
        world.site.set_status(ahead.order_id, "running", notify=False)
        world.run()
        assert statuses(world) == {ahead.vps_id: "running"}, skew
    world.call("update", id=ahead.vps_id, status="suspended")
    world.drain()
    world.site.fault_feed(FeedFaultKind.AS_OF_LAG, value=60.0)
    world.run(2)
    assert statuses(world) == {ahead.vps_id: "suspended"}, "a lag is a lag, however the clock stands"


def test_story_15_a_feed_older_than_the_last_call_is_not_written(world: Bench) -> None:
    sold = sell_converged(world)
    world.site.fault_feed(FeedFaultKind.AS_OF_LAG, value=120.0)
    world.call("update", id=sold.vps_id, status="suspended")
    world.drain()
    world.run(5)
    assert statuses(world) == {sold.vps_id: "suspended"}, "the lagging feed still says running"
    world.site.clear_faults()
    world.run()
    assert statuses(world) == {sold.vps_id: "running"}, "the fault bit: a fresh read of the same word is written"


def test_story_15_a_feed_without_a_usable_time_writes_nothing(world: Bench) -> None:
    sold = sell_converged(world)
    world.site.fault_feed(FeedFaultKind.NO_AS_OF)
    world.site.change_order(sold.order_id, cpu=8)
    world.run(3)
    assert record(world, sold.vps_id)["cpu"] == 2
    world.site.clear_faults()
    world.run()
    assert record(world, sold.vps_id)["cpu"] == 8


def test_story_17_an_order_that_vanished_while_its_guest_is_there_is_kept(world: Bench) -> None:
    keep, sold = sell(world, "keep"), sell(world, "vanished")
    converge(world, keep, sold)
    world.site.remove_order(sold.order_id)
    world.run(5)
    assert statuses(world) == {keep.vps_id: "running", sold.vps_id: "running"}
    assert world.findings() == {("guest-without-order", f"vps:{sold.vps_id}")}
    world.pve.set_status(sold.vmid, "stopped")
    world.run(2)
    assert statuses(world)[sold.vps_id] == "stopped", "its guest is still believed"


def test_story_17_a_guest_that_moved_after_its_order_vanished_and_then_went_too_is_an_orphan(world: Bench) -> None:
    """What was missed before the move proves nothing; what was missed since does."""
    keep, sold = sell(world, "keep"), sell(world, "gone")
    converge(world, keep, sold)
    world.site.remove_order(sold.order_id)
    world.run(3)
    world.pve.migrate(sold.vmid, "pve3")
    world.run(2)
    assert record(world, sold.vps_id)["node"] == "pve3"
    world.pve.remove_guest(sold.vmid)
    world.run(2)
    assert record(world, sold.vps_id)["deleted_at"] is None, "its guest was missed twice only"
    world.run(2)
    assert record(world, sold.vps_id)["deleted_at"] is not None
    (delete,) = [r for r in world.repairs() if r["action"] == "delete"]
    moved = next(r for r in world.repairs() if "moved from node" in r["reason"])
    assert delete["evidence"]["order_absent_since"] > moved["applied_at"].isoformat()


def test_story_19_an_order_that_is_pending_for_hours_is_reported(world: Bench) -> None:
    world.with_policy(stuck_creating=timedelta(hours=2))
    order = world.site.place_order(user_id=1, name="slow")
    world.drain()
    world.run(2)
    assert statuses(world) == {order.panel_vps_id: "creating"}
    assert world.finding_classes() == set()
    execute(world, "UPDATE orders_seen SET state_since = state_since - interval '3 hours'")
    world.run()
    assert world.findings() == {("stuck-creating", f"vps:{order.panel_vps_id}")}
    assert statuses(world) == {order.panel_vps_id: "creating"}


def test_story_20_a_lock_that_was_left_over_stops_protecting(world: Bench) -> None:
    sold = sell_converged(world)
    world.pve.set_lock(sold.vmid, "backup")
    world.pve.set_status(sold.vmid, "stopped")
    world.run(4)
    assert statuses(world) == {sold.vps_id: "running"}, "Proxmox is in the middle of something"
    execute(world, "UPDATE guests SET lock_since = lock_since - interval '3 hours'")
    world.run()
    assert statuses(world) == {sold.vps_id: "stopped"}
