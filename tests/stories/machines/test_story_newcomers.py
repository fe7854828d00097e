"""Stories of machines that came after an order named their address."""

from __future__ import annotations

from datetime import timedelta

import pytest

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
