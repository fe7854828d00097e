"""The three repairs and what must not be repaired, through the real database and real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.support.bench import Bench, bench
from tests.support.databases import Database


@pytest.fixture
def world(database: Database, engine: Engine) -> Iterator[Bench]:
    with bench(database, engine) as made:
        yield made


def converged_order(world: Bench, name: str = "web-01") -> tuple[int, int, int]:
    """An order whose calls all arrived: (order id, vps id, vmid)."""
    order = world.site.place_order(user_id=1, name=name)
    world.drain()
    world.site.set_status(order.id, "running")
    world.drain()
    world.run(2)
    order = world.site.get_order(order.id)
    assert order.panel_vps_id is not None
    assert order.vmid is not None
    return order.id, order.panel_vps_id, order.vmid


def test_a_pushed_order_converges_and_a_second_run_finds_nothing(world: Bench) -> None:
    order_id, vps_id, vmid = converged_order(world)
    (row,) = world.vps()
    assert (row["id"], row["order_id"], row["vmid"], row["status"]) == (vps_id, str(order_id), vmid, "running")
    assert row["link_state"] == "verified"
    assert world.results[-1].plan is not None
    assert world.results[-1].plan.changes == ()
    assert world.results[-1].counts["settled"] == 1
    assert world.results[-1].problems == ()


def test_a_lost_create_is_made_up_for(world: Bench) -> None:
    order = world.site.place_order(user_id=1, name="lost", notify=False)
    world.site.set_status(order.id, "running", notify=False)
    world.run(2)
    (row,) = world.vps()
    assert (row["user_id"], row["name"], row["status"], row["order_id"]) == (5, "lost", "running", str(order.id))
    (repair,) = [r for r in world.repairs() if r["action"] == "create"]
    assert "never arrived" in repair["reason"]
    assert repair["evidence"]["order"] == str(order.id)


def test_a_lost_status_change_is_made_up_for(world: Bench) -> None:
    order_id, vps_id, _ = converged_order(world)
    world.site.set_status(order_id, "stopped", notify=False)
    world.run()
    assert world.vps()[0]["status"] == "running", "one read is not enough to call a machine stopped"
    world.run()
    assert world.vps()[0]["status"] == "stopped"
    world.site.set_status(order_id, "running", notify=False)
    world.run()
    assert world.vps()[0]["status"] == "running"
    world.site.set_status(order_id, "suspended", notify=False)
    world.run()
    assert world.vps()[0]["status"] == "suspended"
    assert {r["vps_id"] for r in world.repairs()} == {vps_id}


def test_a_suspended_order_whose_guest_is_stopped_has_converged(world: Bench) -> None:
    order_id, _, vmid = converged_order(world)
    world.site.set_status(order_id, "suspended", notify=False)
    world.pve.set_status(vmid, "running")
    world.run(3)
    assert world.results[-1].counts["settled"] == 0, "its guest runs: that is told in each run"
    assert world.finding_classes() == {"suspended-but-running"}
    world.pve.set_status(vmid, "stopped")
    world.run(3)
    assert world.results[-1].counts["settled"] == 1
    assert world.findings() == set()


def test_a_lost_delete_is_made_up_for_after_proof(world: Bench) -> None:
    order_id, vps_id, vmid = converged_order(world)
    world.site.cancel_order(order_id, notify=False)
    world.run(2)
    assert [r["id"] for r in world.vps()] == [vps_id], "two absences are no proof"
    world.run()
    assert world.vps() == []
    (row,) = world.every_vps()
    assert row["deleted_at"] is not None
    (repair,) = [r for r in world.repairs() if r["action"] == "delete"]
    assert repair["evidence"]["guest_absent_times"] == 3
    assert len(repair["evidence"]["guest_snapshots"]) == 3
    assert "confirmed_guest" in repair["evidence"]
    assert "confirmed_order" in repair["evidence"]
    del vmid


def test_one_fast_run_repairs_to_running_and_two_to_stopped(world: Bench) -> None:
    _, _, vmid = converged_order(world)
    world.pve.set_status(vmid, "stopped")
    world.fast()
    assert world.vps()[0]["status"] == "running", "one read is not enough to call a machine stopped"
    world.fast()
    assert world.vps()[0]["status"] == "stopped"
    world.pve.set_status(vmid, "running")
    world.fast()
    assert world.vps()[0]["status"] == "running"
    assert [r["result"] for r in world.repairs()][-2:] == ["running -> stopped", "stopped -> running"]


def test_the_fast_lane_sees_power_only(world: Bench) -> None:
    order_id, vps_id, vmid = converged_order(world)
    writes = len(world.repairs())
    world.site.set_status(order_id, "suspended", notify=False)
    world.pve.set_status(vmid, "running")
    world.site.place_order(user_id=1, name="lost", notify=False)
    world.fast(4)
    assert [(r["id"], r["status"]) for r in world.vps()] == [(vps_id, "running")]
    world.site.cancel_order(order_id, notify=False)
    world.fast(4)
    assert [r["id"] for r in world.vps()] == [vps_id], "no suspension, no create, no delete"
    assert len(world.repairs()) == writes
