"""Stories of an address that may be more than one's: calls that contradict what was read, and machines that come back.

Whoever a call, an operator or a merge points at is asked who it is. Where the evidence is clear a run decides it; where
it is not, the finding says what to do.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from panel.journal.restore import restore_vps
from panel.operator_error import OperatorError
from panel.operators.holds import Decision
from panel.operators.pauses import CLUSTER, pause, resume
from tests.stories.steps import (
    ABSENT,
    Sold,
    decide,
    execute,
    guest_facts,
    guest_row,
    held_sets,
    live,
    long_running,
    reason,
    reasons,
    record,
    swap,
)
from tests.support.bench import Bench

STRANGER: dict[str, Any] = {
    "user_id": 6, "name": "b", "cpu": 2, "ram": 4096, "disk": 50, "os": "Debian", "status": "running",
}  # fmt: skip


def nameless_order(world: Bench) -> int:
    """Another customer's going order, of which the main site never says which guest it has; its id."""
    order = world.site.place_order(user_id=2, name="b", os="Debian", create_guest=False, notify=False)
    world.site.set_status(order.id, "running", notify=False)
    return order.id


def disputed(world: Bench, sold: Sold, order_id: int | str) -> int:
    """A create for another order names the guest of a sold machine; its record's id."""
    answer = world.call("create", **STRANGER, cluster="main", vmid=sold.vmid, order_id=str(order_id))
    world.drain()
    vps_id = int(answer.json()["vps"]["id"])
    assert record(world, vps_id)["link_state"] == "conflict"
    return vps_id


def place(world: Bench, vps_id: int) -> tuple[Any, ...]:
    row = record(world, vps_id)
    return row["vmid"], row["link_state"], row["fingerprint"]


# --- a pushed link that conflicts


def test_story_07_a_pushed_link_that_conflicts_and_is_cancelled_leaves_nothing_behind(extended_world: Bench) -> None:
    world = extended_world
    sold = long_running(world)
    other = disputed(world, sold, "999")
    world.run()
    assert world.finding_classes() == {"link-conflict", "unlinked-record"}
    world.call("delete", id=other)
    world.drain()
    world.pve.set_status(sold.vmid, "stopped")
    world.run(2)
    assert (live(world), world.findings()) == ([sold.vps_id], set())
    assert record(world, sold.vps_id)["status"] == "stopped"


def test_story_07_a_conflict_whose_delete_was_lost_is_decided_by_an_operator(extended_world: Bench) -> None:
    world = extended_world
    sold, order = long_running(world), nameless_order(world)
    other, before = disputed(world, sold, order), guest_facts(world, sold)
    world.site.cancel_order(order, notify=False)
    world.run(2)
    assert guest_facts(world, sold) == before
    assert "its delete waits in `panel-sync held`" in reason(world, "link-conflict")
    (held,) = held_sets(world)
    assert held.scope == f"by-approval:vps:{other}"
    decide(world, held.hash, Decision.APPROVED)
    world.run(2)
    assert (live(world), world.findings()) == ([sold.vps_id], set())


def test_story_07_a_conflict_is_over_once_the_address_is_nobody_elses(extended_world: Bench) -> None:
    """No new call is needed: the order goes on and names no other guest, and the call's word was never taken back."""
    world = extended_world
    sold, order = long_running(world), nameless_order(world)
    other = disputed(world, sold, order)
    world.run()
    world.site.cancel_order(sold.order_id)
    world.drain()
    world.run()
    assert "does not exist" in reason(world, "link-conflict")
    guest = world.pve.add_guest(sold.vmid, name="b")
    world.run(2)
    assert place(world, other) == (sold.vmid, "verified", f"smbios:{guest.uuid}")
    assert world.findings() == set()
    world.pve.set_status(sold.vmid, "stopped")
    world.fast(2)
    assert record(world, other)["status"] == "stopped"


def test_story_07_a_conflict_that_nothing_resolves_says_what_to_do(extended_world: Bench) -> None:
    world = extended_world
    sold, order = long_running(world), nameless_order(world)
    other = disputed(world, sold, order)
    world.run(3)
    assert place(world, other) == (None, "conflict", None)
    said = reason(world, "link-conflict")
    assert f"guest main/{sold.vmid}, which a call named for VPS {other}, is VPS {sold.vps_id}'s" in said
    assert f"let order {order} name its own guest" in said
    second = disputed(world, sold, nameless_order(world))
    world.site.cancel_order(sold.order_id)
    world.drain()
    world.pve.add_guest(sold.vmid, name="b")
    world.run(2)
    assert place(world, other) == place(world, second) == (None, "conflict", None)
    assert f"a call named it for VPS {second}, too" in " ".join(reasons(world, "link-conflict"))


def test_story_07_a_call_that_names_a_taken_guest_takes_nobodys_identity_away(extended_world: Bench) -> None:
    """What was read beats what was called: the record keeps its own machine, though its order names none."""
    world = extended_world
    sold = long_running(world, "b")
    order = nameless_order(world)
    guest = world.pve.create_guest(name="own", status="running")
    answer = world.call("create", **STRANGER, cluster="main", vmid=guest.vmid, order_id=str(order))
    world.drain()
    own = int(answer.json()["vps"]["id"])
    world.run()
    before = place(world, own)
    assert before == (guest.vmid, "verified", f"smbios:{guest.uuid}")
    world.call("update", id=own, status="running", cluster="main", vmid=sold.vmid)
    world.drain()
    assert place(world, own) == before
    assert f"VPS {own} keeps guest main/{guest.vmid}" in reason(world, "link-conflict")
    assert (guest_row(world, sold)["doubt"], place(world, sold.vps_id)[1]) == ("call", "verified")
    world.pve.set_status(guest.vmid, "stopped")
    world.run(2)
    assert (place(world, own), record(world, own)["status"]) == (before, "stopped")
    assert world.findings() == set()


# --- machines that come back, or that nobody saw go


@pytest.mark.parametrize("lost", ["delete", "delete and create"])
def test_story_07_a_vmid_that_goes_back_to_the_same_customers_new_machine_is_that_ones(
    extended_world: Bench, lost: str
) -> None:
    world = extended_world
    sold = long_running(world)
    before = guest_facts(world, sold)
    world.site.cancel_order(sold.order_id, notify=False)
    new = world.site.place_order(user_id=1, name="web-01", notify=lost == "delete")
    assert new.vmid == sold.vmid
    world.site.set_status(new.id, "stopped", notify=lost == "delete")
    world.drain()
    world.fast(3)
    assert guest_facts(world, sold) == before
    world.run(4)
    (row,) = world.vps()
    guest = world.pve.find_guest(sold.vmid)
    assert guest is not None
    assert (row["order_id"], row["vmid"], row["fingerprint"]) == (str(new.id), sold.vmid, f"smbios:{guest.uuid}")
    assert (row["status"], row["id"] != sold.vps_id) == ("stopped", True)
    assert record(world, sold.vps_id)["power_state"] == "running", "nothing of the new machine reached the old record"
    assert world.findings() == set()


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_story_07_a_migration_during_a_gap_in_reading_is_followed_once_it_was_read(world: Bench, status: str) -> None:
    sold = long_running(world)
    identity = record(world, sold.vps_id)["fingerprint"]
    world.pve.set_status(sold.vmid, status)
    world.fast(3)
    with world.engine.begin() as connection:
        pause(connection, f"{CLUSTER}main", "a test", timedelta(hours=1), "cli:test")
    world.fast()
    world.pve.migrate(sold.vmid, "pve2")
    world.pve.set_uptime(sold.vmid, 1) if status == "running" else None
    read_at = guest_row(world, sold)["fingerprint_read_at"]
    with world.engine.begin() as connection:
        resume(connection, f"{CLUSTER}main")
    world.fast(2)
    row = record(world, sold.vps_id)
    assert (row["node"], row["fingerprint"], row["power_state"]) == ("pve2", identity, status)
    assert guest_row(world, sold)["fingerprint_read_at"] > read_at, "it was asked who it is"
    assert world.findings() == set()


def test_story_07_a_cluster_in_back_off_whose_guest_was_swapped_shows_nothing_of_the_new_one(world: Bench) -> None:
    """A refused token opens the circuit: nothing is asked for minutes, and nobody pauses anything."""
    sold = long_running(world)
    before = guest_facts(world, sold)
    world.pve.revoke_token()
    world.fast()
    new = swap(world, sold, "stopped")
    world.pve.restore_token()
    world.fast()
    assert guest_row(world, sold)["fingerprint"] == before["fingerprint"], "the circuit is open: nobody was asked"
    execute(world, "UPDATE source_states SET backoff_state = '{}' WHERE source = 'proxmox:main'")
    world.fast(3)
    assert guest_facts(world, sold) == before
    assert guest_row(world, sold)["fingerprint"] == new
    assert world.client_sees(5)[0]["status"] == "running"


# --- an operator's word, and merges


def test_story_22_a_tombstone_that_is_restored_while_another_machine_stands_there_shows_nothing_of_it(
    extended_world: Bench,
) -> None:
    world = extended_world
    sold = long_running(world)
    world.pve.set_status(sold.vmid, "stopped")
    world.fast(3)
    before = guest_facts(world, sold)
    world.call("delete", id=sold.vps_id)
    world.drain()
    new = swap(world, sold, "stopped")
    world.fast()
    assert guest_row(world, sold)["fingerprint"] == before["fingerprint"], "no list tells the two apart"
    with world.engine.begin() as connection:
        restore_vps(connection, sold.vps_id, "by mistake", "cli:test")
    assert (guest_row(world, sold)["fingerprint_state"], guest_row(world, sold)["doubt"]) == ("stale", "restored")
    world.pve.set_status(sold.vmid, "running")
    world.fast(2)
    assert guest_facts(world, sold) == before
    world.run()
    assert guest_row(world, sold)["fingerprint"] == new
    assert guest_facts(world, sold) == before
    assert ("ambiguous", f"vps:{sold.vps_id}") in world.findings()


def test_story_22_a_tombstone_whose_guest_is_another_records_by_now_is_not_restored(extended_world: Bench) -> None:
    world = extended_world
    sold = long_running(world)
    world.site.cancel_order(sold.order_id)
    after = world.site.place_order(user_id=2, name="web-01")
    world.drain()
    world.run()
    assert after.vmid == sold.vmid
    with world.engine.begin() as connection, pytest.raises(OperatorError, match=f"VPS {after.panel_vps_id} by now"):
        restore_vps(connection, sold.vps_id, "by mistake", "cli:test")


def test_story_07_two_records_that_are_merged_while_their_guest_is_in_doubt_show_nothing_of_it(
    extended_world: Bench,
) -> None:
    world = extended_world
    first = long_running(world)
    answer = world.call("create", **STRANGER | {"user_id": 5, "name": "web-01"})
    world.drain()
    twin, before = int(answer.json()["vps"]["id"]), guest_facts(world, first)
    world.site.change_order(first.order_id, panel_vps_id=twin)
    world.pve.forbid_config(first.vmid)
    swap(world, first)
    world.pve.forbid_config(first.vmid)
    world.run(2)
    merged = record(world, first.vps_id)
    assert merged["merged_into"] == twin
    assert guest_facts(world, Sold(first.order_id, twin, first.vmid)) == before
    world.pve.set_status(first.vmid, "stopped")
    world.fast(3)
    world.pve.forbid_config(first.vmid, forbidden=False)
    execute(world, "UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '1 hour'")
    world.run(2)
    world.fast(2)
    assert guest_facts(world, Sold(first.order_id, twin, first.vmid)) == before


# --- a sold machine that became a template, and moved


@pytest.mark.parametrize("ended", [False, True])
def test_story_22_a_sold_machine_that_became_a_template_elsewhere_is_looked_for(world: Bench, ended: bool) -> None:
    keep, sold = long_running(world, "keep"), long_running(world, "gold")
    guest = world.pve.find_guest(sold.vmid)
    assert guest is not None
    world.pve.remove_guest(sold.vmid)
    world.pve.add_guest(9000, name="golden", node="pve2", uuid=guest.uuid, status="stopped", template=True)
    world.pve.add_guest(9001, name="another", status="stopped", template=True)
    if ended:
        world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
    world.run(ABSENT + 2)
    row = record(world, sold.vps_id)
    assert (row["deleted_at"], row["missing_since"], row["power_state"]) == (None, None, "running")
    if ended:
        (held,) = held_sets(world)
        assert held.scope == f"by-approval:vps:{sold.vps_id}"
        assert "template" in reason(world, "is-template")
        decide(world, held.hash, Decision.APPROVED)
        world.run()
        assert live(world) == [keep.vps_id]
    else:
        assert ("is-template", f"vps:{sold.vps_id}") in world.findings()
        assert (row["vmid"], row["node"]) == (9000, "pve2")
        assert world.finding_classes() == {"is-template"}, "who else is a template is nobody's business"
    assert world.pve.find_guest(9000) is not None, "the panel removes no guest"


def test_story_22_a_template_elsewhere_that_goes_too_is_gone_as_the_machine_that_it_was(world: Bench) -> None:
    keep, sold = long_running(world, "keep"), long_running(world, "gold")
    guest = world.pve.find_guest(sold.vmid)
    assert guest is not None
    world.pve.remove_guest(sold.vmid)
    world.pve.add_guest(9000, name="golden", uuid=guest.uuid, status="stopped", template=True)
    world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
    world.run(ABSENT)
    world.pve.remove_guest(9000)
    world.run(ABSENT + 1)
    assert live(world) == [keep.vps_id]
