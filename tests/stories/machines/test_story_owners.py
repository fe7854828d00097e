"""Stories of customers: unknown ones, late ones, two id spaces, and machines that are not on Proxmox."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from lab.simulators.main_site.faults import FeedFaultKind
from tests.stories.steps import converge, record, sell, sell_converged, statuses
from tests.support.bench import Bench, bench
from tests.support.databases import Database


def test_story_10_a_token_of_an_unknown_user_shows_nothing_and_heals_after_the_import(world: Bench) -> None:
    sell_converged(world)
    assert world.client_sees(77) == []
    assert world._rows("SELECT id FROM users WHERE id = 77") == [], "no user is made from a token"
    user = world.site.add_user(username="late", email="late@example.test", panel_user_id=77)
    order = world.site.place_order(user_id=user.id, name="mine", notify=False)
    world.site.set_status(order.id, "running", notify=False)
    world.import_users()
    world.run()
    (mine,) = world.client_sees(77)
    assert (mine["name"], mine["status"]) == ("mine", "running")
    assert [r["name"] for r in world.client_sees(5)] == ["web-01"]


def test_story_22_a_call_for_a_user_that_exists_a_minute_later_is_healed(world: Bench) -> None:
    user = world.site.add_user(username="soon", email="soon@example.test", panel_user_id=88)
    order = world.site.place_order(user_id=user.id, name="early")
    (call,) = world.site.list_calls(order_id=order.id)
    assert (call.status, call.message) == (422, "User 88 does not exist in the panel database")
    world.site.set_status(order.id, "running", notify=False)
    world.run(2)
    assert world.vps() == []
    assert ("owner-unknown", f"order:{order.id}") in world.findings()
    world.import_users()
    world.run()
    (mine,) = world.client_sees(88)
    assert (mine["name"], mine["status"]) == ("early", "running")
    assert world.findings() == set()


def test_story_25_the_feeds_user_ids_are_the_main_sites_own(world: Bench) -> None:
    """Main site user 5 is somebody else than panel user 5: mapped, or held while nobody knows who it is."""
    for number in range(3, 7):
        world.site.add_user(username=f"own{number}", email=f"own{number}@example.test", email_verified=False)
    five = world.site.place_order(user_id=5, name="of-site-user-5", notify=False)
    one = world.site.place_order(user_id=1, name="of-panel-user-5", notify=False)
    for order in (five, one):
        world.site.set_status(order.id, "running", notify=False)
    world.import_users()
    world.run(4)
    assert [(r["user_id"], r["name"]) for r in world.vps()] == [(5, "of-panel-user-5")]
    assert ("owner-unknown", f"order:{five.id}") in world.findings()
    world.site.link_user(5, 9)
    world.import_users()
    world.run()
    assert {(r["user_id"], r["name"]) for r in world.vps()} == {(5, "of-panel-user-5"), (9, "of-site-user-5")}
    assert [r["name"] for r in world.client_sees(5)] == ["of-panel-user-5"]
    assert [r["name"] for r in world.client_sees(9)] == ["of-site-user-5"]


def test_story_25_an_owner_changes_only_after_two_complete_reads(world: Bench) -> None:
    keep, sold = sell(world, "keep"), sell(world, "given")
    converge(world, keep, sold)
    world.page_limit = 1
    world.site.change_order(sold.order_id, user_id=2)
    world.run()
    assert record(world, sold.vps_id)["user_id"] == 5, "one complete read"
    assert ("ownership", f"vps:{sold.vps_id}") in world.findings()
    world.site.fault_feed(FeedFaultKind.REPEAT_ID, page=2)
    world.run(3)
    assert record(world, sold.vps_id)["user_id"] == 5, "incomplete reads do not count"
    world.site.clear_faults()
    world.run(2)
    assert record(world, sold.vps_id)["user_id"] == 6
    assert [r["name"] for r in world.client_sees(6)] == ["given"]
    assert [r["name"] for r in world.client_sees(5)] == ["keep"]


def test_story_25_a_new_map_is_not_the_second_observation_of_an_owner(world: Bench) -> None:
    """The order has said its owner for long; who that is here, somebody said only now, perhaps by mistake."""
    sold = sell_converged(world)
    late = world.site.add_user(username="late", email="late@example.test", email_verified=False)
    world.site.change_order(sold.order_id, user_id=late.id)
    world.run(4)
    assert ("owner-unknown", f"vps:{sold.vps_id}") in world.findings()
    world.site.link_user(late.id, 77)
    world.import_users()
    world.run()
    assert record(world, sold.vps_id)["user_id"] == 5
    assert ("ownership", f"vps:{sold.vps_id}") in world.findings()
    world.run(2)
    assert record(world, sold.vps_id)["user_id"] == 77


@pytest.mark.parametrize("hypervisor", ["vmware", "hyperv"])
def test_story_26_another_hypervisor_follows_its_order_alone(world: Bench, hypervisor: str) -> None:
    keep = sell_converged(world, "keep")
    order = world.site.place_order(user_id=1, name="esx", hypervisor=hypervisor, create_guest=False)
    world.site.set_status(order.id, "running", notify=False)
    world.run(2)
    assert order.panel_vps_id is not None
    assert statuses(world) == {keep.vps_id: "running"}, "its create is journaled, so no second record is made"
    world.drain()
    for word in ("running", "stopped", "suspended", "running"):
        world.site.set_status(order.id, word, notify=False)
        world.run()
        assert statuses(world)[order.panel_vps_id] == word
    world.site.remove_order(order.id)
    world.run(5)
    assert statuses(world)[order.panel_vps_id] == "running", "a vanished order is no proof that the machine is gone"
    assert "order-vanished" in world.finding_classes()


def test_story_26_an_ended_order_of_another_hypervisor_is_a_missed_delete(world: Bench) -> None:
    keep = sell_converged(world, "keep")
    order = world.site.place_order(user_id=1, name="esx", hypervisor="vmware", create_guest=False)
    world.drain()
    world.run()
    world.site.cancel_order(order.id, notify=False)
    world.run(2)
    assert statuses(world) == {keep.vps_id: "running"}


def test_story_27_a_foreign_feed_creates_nothing_in_bulk(database: Database, engine: Engine) -> None:
    settings: dict[str, Any] = {"budget_creates_min": 10}
    with bench(database, engine, **settings) as world:
        keep = sell_converged(world, "keep")
        world.site.fill(3000, user_id=2, first_vmid=10_000)
        world.run(2)
        assert statuses(world) == {keep.vps_id: "running"}
        (held,) = world._rows("SELECT scope, reason, jsonb_array_length(items) AS n FROM holds WHERE decision IS NULL")
        assert (held["scope"], held["n"]) == ("creates", 3000)
        assert ("held", "scope:creates") in world.findings()
        world.pve.set_status(keep.vmid, "stopped")
        world.run(2)
        assert statuses(world) == {keep.vps_id: "stopped"}, "everything else goes on"
