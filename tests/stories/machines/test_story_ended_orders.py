"""Stories of a machine whose order ended: it is sold on, to be removed, or turned into a template.

Nothing of the next customer's reaches the one before, and nobody is told to remove a machine that may be another's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.source_protocols import Found
from panel.operators.holds import Decision
from sources.main_site import OrdersFeed
from tests.stories.steps import (
    ABSENT,
    Sold,
    age,
    decide,
    execute,
    guest_row,
    held_sets,
    live,
    long_running,
    reason,
    record,
    sell,
    swap,
)
from tests.support.bench import Bench

# --- a machine that is sold on


def sold_on(world: Bench, buyer: int = 2) -> tuple[Sold, Any]:
    """One order ended and kept its guest; the next customer's order names that very machine, and no call says so."""
    old = long_running(world, "a")
    world.site.cancel_order(old.order_id, remove_guest=False, notify=False)
    new = world.site.place_order(user_id=buyer, name="b", notify=False)
    assert new.vmid not in (None, old.vmid)
    world.pve.remove_guest(new.vmid)
    world.site.change_order(new.id, vmid=old.vmid)
    world.site.set_status(new.id, "running", notify=False)
    return old, new


def test_story_07_a_machine_that_is_sold_on_is_shown_to_nobody_until_it_is_decided(world: Bench) -> None:
    old, new = sold_on(world)
    world.run(3)
    assert {("sold-on", f"vps:{old.vps_id}")} <= world.findings()
    assert "ended-but-running" not in world.finding_classes(), "nobody is told to remove it"
    assert record(world, old.vps_id)["order_state"] == "ended"
    world.pve.set_status(old.vmid, "stopped")
    world.fast(3)
    world.run()
    assert record(world, old.vps_id)["power_state"] == "running", "what it does now is the buyer's"
    (seen,) = world.client_sees(5)
    assert seen["as_of"] < world._rows("SELECT began_at FROM scopes WHERE scope = 'pve1'")[0]["began_at"].isoformat()
    assert world.client_sees(6) == []
    (held,) = held_sets(world)
    assert held.scope == "class:sold-on"
    decide(world, held.hash, Decision.APPROVED)
    world.run(2)
    (bought,) = world.client_sees(6)
    assert (bought["name"], bought["status"], bought["order_id"]) == ("b", "stopped", str(new.id))
    first = record(world, old.vps_id)
    assert (first["vmid"], first["fingerprint"], first["power_state"]) == (None, None, "running")
    (transfer,) = [r for r in world.repairs() if "buyer" in (r["evidence"] or {})]
    assert transfer["evidence"]["confirmed_same"].startswith("guest main/")
    world.run(3)
    assert world.client_sees(5) == [], "its order had ended: a missed delete, as any other"
    assert "sold-on" not in world.finding_classes()


def test_story_07_the_same_customers_next_order_takes_its_machine_over_by_itself(world: Bench) -> None:
    old, new = sold_on(world, buyer=1)
    world.run(5)
    live_orders = {r["order_id"]: r["vmid"] for r in world.vps()}
    assert live_orders.get(str(new.id)) == old.vmid
    assert held_sets(world) == []


def test_story_07_a_machine_that_is_sold_on_stays_in_quarantine_beside_its_clone(world: Bench) -> None:
    old, _ = sold_on(world)
    guest = world.pve.find_guest(old.vmid)
    assert guest is not None
    world.pve.add_guest(950, name="copy", uuid=guest.uuid)
    world.run(4)
    world.pve.set_status(old.vmid, "stopped")
    world.fast(2)
    world.run()
    assert held_sets(world) == []
    assert "duplicate-fingerprint" in world.finding_classes()
    assert record(world, old.vps_id)["power_state"] == "running"
    assert world.client_sees(6) == []


def test_story_07_a_buyers_order_that_names_another_guest_by_now_gets_nothing(
    world: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked by itself just before the write, it names another machine than in the list."""
    old, new = sold_on(world)
    world.run(3)
    (held,) = held_sets(world)
    decide(world, held.hash, Decision.APPROVED)
    real = OrdersFeed.order

    def order(feed: OrdersFeed, order_id: str, control_id: str | None) -> Any:
        found = real(feed, order_id, control_id)
        assert isinstance(found, Found)
        return Found(replace(found.value, vmid=990)) if order_id == str(new.id) else found

    monkeypatch.setattr(OrdersFeed, "order", order)
    world.run()
    assert record(world, old.vps_id)["vmid"] == old.vmid
    assert ("not-confirmed", f"vps:{old.vps_id}") in world.findings()


# --- who is told to remove whom


def test_story_22_an_alarm_to_remove_a_guest_names_the_machine_and_reads_it_first(world: Bench) -> None:
    sold = long_running(world)
    uuid = record(world, sold.vps_id)["fingerprint"]
    world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
    world.run(2)
    named = f"guest main/{sold.vmid} is {uuid}, the machine that was sold, and no other order or record names it"
    assert named in reason(world, "ended-but-running")
    execute(world, "UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '2 hours'")
    world.pve.set_uptime(sold.vmid, 86_400)
    world.run()
    assert named in reason(world, "ended-but-running"), "it was read again first"
    execute(world, "UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '2 hours'")
    world.pve.fail_answers(f"/nodes/pve1/qemu/{sold.vmid}/config")
    world.run()
    assert f"do not remove guest main/{sold.vmid}" in reason(world, "ended-but-running")


def test_story_22_an_alarm_to_remove_a_guest_rests_on_a_look_at_it_after_its_order_ended(world: Bench) -> None:
    """The machine is another one since the last look, minutes before the order ended, and no list tells."""
    sold = long_running(world)
    new = swap(world, sold)
    age(world, sold)
    world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
    world.run()
    assert guest_row(world, sold)["fingerprint"] == new, "it was read after the end"
    assert "ended-but-running" not in world.finding_classes(), "nobody is told to remove the next customer's machine"


@pytest.mark.parametrize("told_by", ["the record's order", "an order without a record"])
def test_story_22_what_was_read_before_the_order_ended_says_nothing_of_who_may_be_removed(
    world: Bench, told_by: str
) -> None:
    sold = long_running(world)
    if told_by == "an order without a record":
        execute(
            world,
            f"UPDATE vps SET deleted_at = now() - interval '1 day', deleted_reason = 'x' WHERE id = {sold.vps_id}",
        )
    world.pve.fail_answers(f"/nodes/pve1/qemu/{sold.vmid}/config")
    world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
    world.run()
    assert f"do not remove guest main/{sold.vmid}" in reason(world, "ended-but-running")


# --- a sold machine that was turned into a template


def test_story_22_a_sold_machine_that_is_a_template_is_told_and_has_a_lever_after_its_end(world: Bench) -> None:
    keep, sold = long_running(world, "keep"), long_running(world, "gold")
    guest = world.pve.find_guest(sold.vmid)
    assert guest is not None
    world.pve.remove_guest(sold.vmid)
    world.pve.add_guest(sold.vmid, name=guest.name, uuid=guest.uuid, status="stopped", template=True)
    world.run(2)
    assert ("is-template", f"vps:{sold.vps_id}") in world.findings()
    assert record(world, sold.vps_id)["deleted_at"] is None
    world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
    world.run(3)
    assert "delete-held" not in world.finding_classes()
    (held,) = held_sets(world)
    assert held.scope == f"by-approval:vps:{sold.vps_id}"
    decide(world, held.hash, Decision.APPROVED)
    world.run()
    assert [row["id"] for row in world.vps()] == [keep.vps_id]
    assert world.pve.find_guest(sold.vmid) is not None, "the panel removes no guest"


def test_story_22_a_template_that_goes_is_missed_as_the_machine_that_it_was(world: Bench) -> None:
    _, sold = long_running(world, "keep"), long_running(world, "gold")
    guest = world.pve.find_guest(sold.vmid)
    assert guest is not None
    world.pve.remove_guest(sold.vmid)
    world.pve.add_guest(sold.vmid, name=guest.name, uuid=guest.uuid, status="stopped", template=True)
    world.run(2)
    world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
    world.pve.remove_guest(sold.vmid)
    world.run(ABSENT + 1)
    assert record(world, sold.vps_id)["deleted_at"] is not None


def test_story_22_an_order_that_ends_and_clears_its_guest_does_not_say_that_the_guest_is_gone(world: Bench) -> None:
    """The record was never linked: its order was still being set up. Its end must not delete it by the order alone."""
    sold = sell(world, "web")
    world.site.set_status(sold.order_id, "pending", notify=False)
    world.run(3)
    assert record(world, sold.vps_id)["vmid"] is None
    world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
    world.site.site._change(sold.order_id, {"cluster": None, "node": None, "vmid": None})
    world.run(4)
    assert live(world) == [sold.vps_id], "its guest goes on"
    assert "ended-but-running" in world.finding_classes()
    world.pve.remove_guest(sold.vmid)
    world.run(6)
    (held,) = held_sets(world)
    assert held.scope == f"by-approval:vps:{sold.vps_id}", "an operator may say that it is over"
