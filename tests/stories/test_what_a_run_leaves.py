"""More candidates than one run takes: what is left has its turn later, and what no run can take is told."""

from __future__ import annotations

import pytest

from panel.observations import components
from panel.operators.holds import Decision
from tests.stories.steps import converge, decide, execute, held_sets, live, sell, statuses
from tests.support.bench import Bench


def test_findings_of_what_was_not_taken_stay(world: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for vmid in (901, 902, 903):
        world.pve.add_guest(vmid, node="pve1", name=f"own-{vmid}")
    world.run(2)
    before = world.findings()
    assert {subject for class_, subject in before if class_ == "unmanaged-guest"} == {
        f"guest:main/{vmid}" for vmid in (901, 902, 903)
    }
    monkeypatch.setattr(components, "BUDGET", 4)
    cut = world.run(3)
    assert cut.counts["cut"] == 2
    assert "selection: 2 candidates are left to the next run, which selects again at random" in cut.problems
    assert world.findings() == before
    monkeypatch.undo()
    world.pve.remove_guest(901)
    world.run()
    assert ("unmanaged-guest", "guest:main/901") not in world.findings()


def hosts_elsewhere(world: Bench, count: int) -> None:
    """Suspects for good: records whose hosts no cluster shows, and of which no order is known."""
    for n in range(count):
        assert world.call("create", user_id=6, name=f"old-{n}", cpu=1, ram=512, disk=5, os="x",
                          hypervisor="vmware").is_success  # fmt: skip
    world.drain()
    execute(world, "UPDATE vps SET created_at = created_at - interval '3 days' WHERE hypervisor = 'vmware'")


def test_lasting_suspects_starve_nobody(world: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sold = sell(world, "last")
    converge(world, sold)
    hosts_elsewhere(world, 3)
    world.site.set_status(sold.order_id, "suspended", notify=False)
    monkeypatch.setattr(components, "BUDGET", 12)  # a component of three objects, and what is begun beside it
    for _ in range(60):
        if world.run().counts["cut"] and statuses(world)[sold.vps_id] == "suspended":
            return
    raise AssertionError("it never had its turn")


def test_what_waits_for_a_word_waits_while_it_is_not_taken(world: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts_elsewhere(world, 3)
    world.run()
    asked = {one.scope for one in held_sets(world)}
    assert len(asked) == 3
    monkeypatch.setattr(components, "BUDGET", 4)
    assert world.run(2).counts["cut"]
    assert {one.scope for one in held_sets(world)} == asked
    one = held_sets(world)[0]
    decide(world, one.hash, Decision.APPROVED)
    monkeypatch.undo()
    world.run()
    assert len(live(world)) == 2


def test_what_hangs_together_and_is_too_much_is_one_alarm_until_it_is_less(
    world: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three records and three orders of one name, that nothing joins; whoever else there is, is looked after."""
    keep = sell(world, "keep")
    converge(world, keep)
    for _ in range(3):
        assert world.call("create", user_id=6, name="same", cpu=1, ram=512, disk=5, os="x",
                          hypervisor="proxmox").is_success  # fmt: skip
        world.site.place_order(user_id=2, name="same", notify=False)
    world.drain()
    world.site.set_status(keep.order_id, "suspended", notify=False)
    monkeypatch.setattr(components, "BUDGET", 20)
    for _ in range(2):
        counts = world.run().counts
        assert (counts["entangled"], counts["cut"]) == (1, 9)
    first = min(row["id"] for row in world.vps() if row["name"] == "same")
    assert ("entangled", f"vps:{first}") in world.findings()
    assert "ambiguous" not in world.finding_classes()
    assert statuses(world)[keep.vps_id] == "suspended"
    monkeypatch.undo()
    world.run()
    assert "entangled" not in world.finding_classes()
    assert "ambiguous" in world.finding_classes()
