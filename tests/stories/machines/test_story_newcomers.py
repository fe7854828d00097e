"""Stories of machines that came after an order named their address."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lab.simulators.main_site.faults import FeedFaultKind
from tests.support.bench import Bench

VMID = 4_711


@pytest.fixture
def named_first(world: Bench) -> Bench:
    """A panel that knows an order whose create was lost and whose machine it never saw."""
    world.with_policy(read_gap=timedelta(0))
    order = world.site.place_order(user_id=1, name="early", create_guest=False, notify=False)
    world.site.change_order(order.id, cluster=world.pve.name, node="pve1", vmid=VMID)
    world.site.set_status(order.id, "running", notify=False)
    world.import_users()
    world.run()
    return world


def test_story_07_the_next_buyers_machine_is_not_linked_while_his_order_is_not_known(named_first: Bench) -> None:
    world = named_first
    world.site.fault_feed(FeedFaultKind.STATUS, value=503)
    world.pve.add_guest(VMID, node="pve1", name="next")
    world.run(3)
    assert [row["fingerprint"] for row in world.vps()] in ([], [None])
    assert all(row["link_state"] != "verified" for row in world.vps())
    following = world.site.place_order(user_id=2, name="next", create_guest=False, notify=False)
    world.site.change_order(following.id, cluster=world.pve.name, node="pve1", vmid=VMID)
    world.site.clear_faults()
    world.run(3)
    assert all(row["link_state"] != "verified" for row in world.vps()), "two orders name it"
    assert "ambiguous" in world.finding_classes()


def test_its_own_machine_is_linked_once_the_orders_were_read_twice(named_first: Bench) -> None:
    world = named_first
    world.pve.add_guest(VMID, node="pve1", name="early")
    world.run()
    assert [row for row in world.vps() if row["link_state"] == "verified"] == []
    assert "ambiguous" in world.finding_classes()
    world.run(3)
    (mine,) = world.vps()
    assert (mine["link_state"], mine["vmid"], mine["status"]) == ("verified", VMID, "running")
    assert "ambiguous" not in world.finding_classes()
