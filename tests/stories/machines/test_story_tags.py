"""Stories of guests that an operator tagged with an identity."""

from __future__ import annotations

from tests.stories.steps import converge, record, sell, sell_converged, statuses
from tests.support.bench import Bench

TAG = "pnl-0b7a4a4e-3c8b-4b0e-9d55-0f1f3b7a1c11"
OTHER = "pnl-5d0f2a43-9e0c-4f4c-8a54-7b8f1f0d2e22"


def test_a_clone_that_took_the_tag_along_is_told_and_nothing_of_either_is_touched(world: Bench) -> None:
    keep, sold = sell(world, "keep"), sell(world, "tagged")
    converge(world, keep, sold)
    world.pve.change_guest(sold.vmid, tags=TAG)
    world.run()
    assert world.finding_classes() == set()
    world.pve.add_guest(900, name="copy", tags=f"blue;{TAG}", uuid="6a0c8a0e-74c6-4e7e-9b5e-1f5f0f3c9a33")
    world.run()
    assert ("duplicate-fingerprint", "guest:main/900") in world.findings()
    version = record(world, sold.vps_id)["version"]
    world.pve.set_status(sold.vmid, "stopped")
    world.pve.set_status(keep.vmid, "stopped")
    world.fast(2)
    world.run(2)
    assert statuses(world) == {keep.vps_id: "stopped", sold.vps_id: "running"}
    assert record(world, sold.vps_id)["version"] == version
    world.pve.change_guest(900, tags="blue")
    world.run()
    assert statuses(world) == {keep.vps_id: "stopped", sold.vps_id: "stopped"}
    assert "duplicate-fingerprint" not in world.finding_classes()


def test_another_tag_in_the_list_has_the_configuration_read_before_anything_is_written(world: Bench) -> None:
    """A VMID given to a machine of equal name, node and size looks the same in a list, but for its tag."""
    sold = sell_converged(world)
    world.pve.change_guest(sold.vmid, tags=TAG)
    world.run()
    world.pve.change_guest(sold.vmid, tags=OTHER, uuid="6a0c8a0e-74c6-4e7e-9b5e-1f5f0f3c9a33")
    world.pve.set_status(sold.vmid, "stopped")
    world.fast(2)
    assert statuses(world) == {sold.vps_id: "running"}, "whose power this is nobody has looked at"
    world.run()
    assert [g["fingerprint_state"] for g in world._rows("SELECT * FROM guests")] == ["read"]
    assert ("ambiguous", f"vps:{sold.vps_id}") in world.findings()
    assert statuses(world) == {sold.vps_id: "running"}
