"""Stories of guests that are not of the size that was sold: told, and left to people."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.stories.steps import execute, last_repair, record, repairs_since, sell_converged
from tests.support.bench import Bench

ANOTHER_LOOK = "UPDATE guest_configs SET read_at = read_at - interval '2 hours'"


@pytest.fixture(autouse=True)
def at_once(world: Bench) -> None:
    world.with_policy(spec_grace=timedelta(0))


def spec_of(world: Bench) -> list[tuple[str, str]]:
    """(severity, reason) of open findings of this class."""
    rows = world._rows("SELECT severity, reason FROM findings WHERE class = 'spec' AND resolved_at IS NULL")
    return [(row["severity"], row["reason"]) for row in rows]


def test_a_guest_that_is_smaller_than_sold_is_told_and_nobody_is_resized(world: Bench) -> None:
    sold = sell_converged(world)
    assert spec_of(world) == []
    before, last = record(world, sold.vps_id), last_repair(world)
    world.pve.change_guest(sold.vmid, memory_mb=2048)
    world.run()
    assert spec_of(world) == [
        (
            "warning",
            f"guest main/{sold.vmid} is configured with 2048 MiB of memory instead of {before['ram_mb']}: "
            "less than was sold",
        )
    ]
    assert repairs_since(world, last) == []
    assert record(world, sold.vps_id) == before, "the client is shown what was sold"
    guest = world.pve.find_guest(sold.vmid)
    assert guest is not None
    assert guest.memory_mb == 2048


def test_a_larger_disk_is_seen_by_another_look_and_the_finding_ends_when_it_was_sold(world: Bench) -> None:
    """No list shows a second disk: the configuration is read again where it differed, within the hour."""
    sold = sell_converged(world)
    world.pve.change_guest(sold.vmid, disk_gb=80, cores=4)
    world.run()
    assert [severity for severity, _ in spec_of(world)] == ["info"]
    world.pve.change_guest(sold.vmid, disk_gb=50, cores=2)
    world.run()
    assert spec_of(world) == []
    world.pve.change_guest(sold.vmid, disk_gb=80, cores=4)
    world.run()
    world.pve.change_guest(sold.vmid, disk_gb=50)
    execute(world, ANOTHER_LOOK)
    world.run()
    ((_, reason),) = spec_of(world)
    assert "cores" in reason
    assert "disk" not in reason


def test_a_plan_that_was_changed_lately_is_given_time(world: Bench) -> None:
    sold = sell_converged(world)
    world.with_policy(spec_grace=timedelta(hours=1))
    world.pve.change_guest(sold.vmid, cores=8)
    world.run()
    assert spec_of(world) == []
    aged: dict[str, Any] = {"id": sold.vps_id}
    execute(world, "UPDATE guest_configs SET since = since - interval '2 hours'")
    world.run()
    assert spec_of(world) == [], "the record's link and plan are young"
    execute(
        world,
        "UPDATE vps SET plan_changed_at = plan_changed_at - interval '2 hours',"
        " link_changed_at = link_changed_at - interval '2 hours' WHERE id = :id",
        **aged,
    )
    world.run()
    assert [severity for severity, _ in spec_of(world)] == ["info"]


def test_another_machine_at_the_address_is_not_compared_with_what_was_sold(world: Bench) -> None:
    """VMIDs are reused: its size says nothing of this record, whose machine is gone."""
    sold = sell_converged(world)
    world.pve.change_guest(sold.vmid, uuid="0d9b2f6e-5a07-4d0c-8c6c-2f0c2f4f2a11", memory_mb=1024)
    world.run(2)
    assert spec_of(world) == []
    assert record(world, sold.vps_id)["deleted_at"] is None
