"""Stories of one machine with several records, and of several machines that look alike."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lab.simulators.main_site.faults import CallFaultKind
from panel.journal.restore import restore_vps
from panel.operators.holds import Decision
from tests.stories.steps import ABSENT, converge, decide, execute, held_sets, live, record, sell, sell_converged
from tests.support.bench import Bench


def test_story_01_a_lost_answer_and_a_retry_become_one_record(world: Bench) -> None:
    world.site.fault_calls(CallFaultKind.LOSE_ANSWER, action="create")
    order = world.site.place_order(user_id=1, name="web-01")
    retried = world.site.send_call(order.id, "create")
    world.drain()
    first, second = [r["id"] for r in world.vps()]
    assert retried.vps_id == second, "the main site knows the second id only"
    world.site.set_status(order.id, "running")
    world.drain()
    world.run(2)
    (row,) = world.vps()
    assert (row["id"], row["order_id"], row["status"]) == (second, str(order.id), "running")
    assert record(world, first)["merged_into"] == second
    (merge,) = [r for r in world.repairs() if r["action"] == "merge"]
    assert "both ids keep working" in merge["reason"]
    # the other id still resolves
    assert world.call("update", id=first, status="stopped").json()["vps"]["id"] == second
    world.drain()
    assert record(world, second)["status"] == "stopped"
    assert [r["id"] for r in world.client_sees(5)] == [second]


def test_story_01_without_a_panel_id_in_the_feed_the_id_in_use_survives(world: Bench) -> None:
    """The feed names the id that the main site stored: whichever it was, updates by it reach the survivor."""
    order = world.site.place_order(user_id=1, name="web-01")
    first = order.panel_vps_id
    assert first is not None
    second = world.call("create", user_id=5, name="web-01", cpu=2, ram=4096, disk=50, os="Ubuntu 22.04").json()
    world.drain()
    world.site.set_status(order.id, "running")
    world.drain()
    world.run(2)
    assert [r["id"] for r in world.vps()] == [first]
    assert record(world, second["vps"]["id"])["merged_into"] == first


def test_story_02_equal_names_are_paired_by_plan_or_held(world: Bench) -> None:
    for cpu in (2, 4):
        world.call("create", user_id=5, name="web", cpu=cpu, ram=4096, disk=50, os="Ubuntu 22.04")
    world.drain()
    orders = [world.site.place_order(user_id=1, name="web", cpu=cpu, notify=False) for cpu in (4, 2)]
    for order in orders:
        world.site.set_status(order.id, "running", notify=False)
    world.run()
    assert {(r["cpu"], r["order_id"]) for r in world.vps()} == {(4, str(orders[0].id)), (2, str(orders[1].id))}


def test_story_02_equal_in_everything_is_held_and_neither_missing_nor_orphan(world: Bench) -> None:
    for _ in range(2):
        world.call("create", user_id=5, name="web", cpu=2, ram=4096, disk=50, os="Ubuntu 22.04")
    world.drain()
    for _ in range(2):
        order = world.site.place_order(user_id=1, name="web", notify=False)
        world.site.set_status(order.id, "running", notify=False)
    before = world.vps()
    world.run(5)
    assert [(r["id"], r["order_id"], r["version"]) for r in world.vps()] == [
        (r["id"], None, r["version"]) for r in before
    ], "nothing was created, linked, merged or deleted"
    assert "ambiguous" in world.finding_classes()
    assert world.finding_classes().isdisjoint({"paid-but-missing", "unlinked-record"})


def test_story_16_a_late_create_after_the_reconcilers_own_is_merged(world: Bench) -> None:
    order = world.site.place_order(user_id=1, name="web-01", notify=False)
    world.site.set_status(order.id, "running", notify=False)
    world.run()
    (made,) = world.vps()
    world.site.send_call(order.id, "create")
    world.drain()
    late = world.site.get_order(order.id).panel_vps_id
    assert late not in (None, made["id"])
    world.run(2)
    (row,) = world.vps()
    assert (row["id"], row["order_id"], row["status"], row["link_state"]) == (
        late,
        str(order.id),
        "running",
        "verified",
    )
    assert record(world, made["id"])["merged_into"] == late


def test_story_09_a_pushed_record_that_the_feed_has_not_shown_is_never_deleted_nor_merged(world: Bench) -> None:
    """A second machine of the same customer, equal in everything, whose order the feed is late with."""
    shown = sell_converged(world, "web")
    late = world.site.place_order(user_id=1, name="web")
    world.site.hide_order(late.id)
    world.drain()
    world.run(6)
    assert [r["id"] for r in world.vps()] == [shown.vps_id, late.panel_vps_id]
    assert all(r["deleted_at"] is None for r in world.every_vps())
    assert ("unlinked-record", f"vps:{late.panel_vps_id}") in world.findings()
    world.site.hide_order(late.id, hidden=False)
    world.site.set_status(late.id, "running", notify=False)
    world.run(2)
    assert [(r["order_id"], r["status"]) for r in world.vps()] == [
        (str(shown.order_id), "running"),
        (str(late.id), "running"),
    ]
    assert world.findings() == set(), "resolved when gone"


def test_story_09_a_pushed_order_id_that_the_feed_never_shows_is_kept(extended_world: Bench) -> None:
    world = extended_world
    answer = world.call(
        "create", user_id=5, name="x", cpu=1, ram=1024, disk=10, os="Debian", order_id="777", status="running"
    )
    world.drain()
    world.run(6)
    (row,) = world.vps()
    assert (row["id"], row["status"], row["order_id"]) == (answer.json()["vps"]["id"], "running", "777")
    assert world.finding_classes() == {"unlinked-record"}


@pytest.mark.parametrize("next_type", ["qemu", "lxc"])
@pytest.mark.parametrize("next_owner", [1, 2], ids=["the same customer", "another customer"])
def test_story_21_a_late_create_takes_nobody_elses_machine(
    extended_world: Bench, next_owner: int, next_type: str
) -> None:
    """Its order went, and its VMID is the next machine's, before its call was applied: it had never been looked at."""
    world = extended_world
    late = world.site.place_order(user_id=1, name="late", guest_type="lxc")
    world.site.set_status(late.id, "running")
    world.run()
    world.site.remove_order(late.id)
    assert late.vmid is not None
    world.pve.remove_guest(late.vmid)
    after = world.site.place_order(user_id=next_owner, name="after", guest_type=next_type)
    world.site.set_status(after.id, "running")
    assert after.vmid == late.vmid
    world.run()
    world.drain()
    first, second = (record(world, id_) for id_ in (late.panel_vps_id, after.panel_vps_id) if id_ is not None)
    assert (first["vmid"], second["vmid"]) == (late.vmid, None), "the second call's link conflicts with the first's"
    world.pve.set_status(late.vmid, "stopped")
    for _ in range(8):
        world.run()
        first = record(world, first["id"])
        assert (first["fingerprint"], first["status"]) == (None, "running")
    second = record(world, second["id"])
    assert (second["vmid"], second["link_state"], second["status"]) == (after.vmid, "verified", "stopped")
    assert (first["vmid"], first["deleted_at"]) == (None, None)
    (held,) = held_sets(world)
    assert held.scope == f"by-approval:vps:{first['id']}"
    decide(world, held.hash, Decision.APPROVED)
    world.run()
    assert live(world) == [second["id"]]


def test_story_18_a_create_after_a_delete_is_a_new_intent(extended_world: Bench) -> None:
    world = extended_world
    body: dict[str, Any] = {
        "user_id": 5,
        "name": "again",
        "cpu": 1,
        "ram": 1024,
        "disk": 10,
        "os": "Debian",
        "order_id": "901",
    }
    first = world.call("create", key="key-1", **body)
    world.drain()
    world.call("delete", id=first.json()["vps"]["id"])
    world.drain()
    replayed = world.call("create", key="key-1", **body)
    assert replayed.headers["Idempotent-Replayed"] == "true"
    assert replayed.json()["vps"]["id"] == first.json()["vps"]["id"]
    second = world.call("create", **body).json()["vps"]["id"]
    world.drain()
    assert second != first.json()["vps"]["id"]
    world.run(4)
    assert [(r["id"], r["order_id"]) for r in world.vps()] == [(second, "901")]
    assert record(world, first.json()["vps"]["id"])["deleted_reason"] == "sync"


def test_story_07_a_reused_vmid_hands_no_machine_to_another_customer(world: Bench) -> None:
    old = sell_converged(world, "old")
    world.site.cancel_order(old.order_id, notify=False)
    new = world.site.place_order(user_id=2, name="new", notify=False)
    world.site.set_status(new.id, "running", notify=False)
    assert new.vmid == old.vmid, "the VMID was reused"
    for _ in range(8):
        world.run()
        owners = {r["id"]: (r["user_id"], r["name"], r["order_id"]) for r in world.vps()}
        assert owners.get(old.vps_id, (5, "old", str(old.order_id))) == (5, "old", str(old.order_id))
        assert [r["name"] for r in world.client_sees(6)] in ([], ["new"])
        assert [r["name"] for r in world.client_sees(5)] in ([], ["old"])
    (row,) = world.vps()
    assert (row["user_id"], row["order_id"], row["vmid"], row["status"]) == (6, str(new.id), old.vmid, "running")
    actions = [(r["action"], r["vps_id"] == old.vps_id) for r in world.repairs()][-3:]
    assert sorted(actions) == [("create", False), ("delete", True), ("update", True)]
    created = next(r for r in world.repairs() if r["action"] == "create")
    last_run = world.results[-1].run_id
    assert last_run is not None
    assert created["run_id"] <= last_run - 5, "at once: before the old one is deleted"


def test_story_21_a_reinstalled_machine_is_taken_after_two_observations(world: Bench) -> None:
    sold = sell_converged(world)
    before = record(world, sold.vps_id)["fingerprint"]
    world.pve.remove_guest(sold.vmid)
    world.pve.add_guest(sold.vmid, name="reinstalled", status="running")
    world.run()
    row = record(world, sold.vps_id)
    assert (row["fingerprint"], row["status"]) == (before, "running"), "one observation is not enough"
    world.run(2)
    row = record(world, sold.vps_id)
    assert row["fingerprint"] not in (None, before)
    assert any(r["reason"].startswith("reinstalled") for r in world.repairs())
    world.pve.set_status(sold.vmid, "stopped")
    world.run(2)
    assert record(world, sold.vps_id)["status"] == "stopped", "its power is believed again"


def test_story_21_a_container_with_nothing_to_know_it_by_is_not_taken_for_the_machine_before(world: Bench) -> None:
    """The VMID was given away to a container without a network card: nothing of it is believed."""
    sold = sell_converged(world)
    before = record(world, sold.vps_id)
    world.pve.remove_guest(sold.vmid)
    world.pve.add_guest(sold.vmid, type="lxc", name="web-01", status="stopped", mac="")
    world.run(3)
    world.fast(2)
    row = record(world, sold.vps_id)
    told = ("status", "power_state", "fingerprint", "guest_type")
    assert {k: row[k] for k in told} == {k: before[k] for k in told}
    assert ("ambiguous", f"vps:{sold.vps_id}") in world.findings()


def test_story_21_a_container_without_a_network_card_is_linked_unverified_until_it_has_one(world: Bench) -> None:
    sold = sell(world, "quiet", guest_type="lxc")
    world.pve.remove_guest(sold.vmid)
    world.pve.add_guest(sold.vmid, type="lxc", name="quiet", mac="")
    world.run(2)
    row = record(world, sold.vps_id)
    assert (row["link_state"], row["fingerprint"], row["status"]) == ("unverified", None, "running")
    world.pve.remove_guest(sold.vmid)
    world.pve.add_guest(sold.vmid, type="lxc", name="quiet", node="pve2")
    world.run(2)
    assert record(world, sold.vps_id)["link_state"] == "verified"


def test_story_13_a_restored_tombstone_is_not_deleted_on_old_evidence(world: Bench) -> None:
    keep = sell(world, "keep")
    sold = sell(world, "gone")
    converge(world, keep, sold)
    world.site.cancel_order(sold.order_id, notify=False)
    world.run(3)
    assert record(world, sold.vps_id)["deleted_at"] is not None
    with world.engine.begin() as connection:
        row = restore_vps(connection, sold.vps_id, "the customer paid after all", "cli:test")
    assert timedelta(days=6, hours=23) < row["protected_until"] - row["updated_at"] <= timedelta(days=7)
    assert world._rows("SELECT * FROM absences") == [], "all evidence is gathered anew"
    newest = world._rows("SELECT max(id) AS id FROM snapshots")[0]["id"]
    assert [r["id"] for r in world.client_sees(5)] == [keep.vps_id, sold.vps_id]
    world.run(4)
    assert record(world, sold.vps_id)["deleted_at"] is None, "proven again, and protected all the same"
    assert ("delete-held", f"vps:{sold.vps_id}") in world.findings()
    execute(world, "UPDATE vps SET protected_until = clock_timestamp() WHERE id = :id", id=sold.vps_id)
    world.run()
    assert record(world, sold.vps_id)["deleted_at"] is not None
    second = [r for r in world.repairs() if r["action"] == "delete"][-1]
    assert min(second["evidence"]["guest_snapshots"]) > newest, "deleted on evidence of after the restore"


def test_story_28_an_unreadable_fingerprint_links_unverified_and_is_never_a_proof(world: Bench) -> None:
    keep = sell_converged(world, "keep")
    sold = sell(world, "secret")
    world.pve.forbid_config(sold.vmid)
    world.run()
    assert record(world, sold.vps_id)["link_state"] == "unverified"
    world.site.cancel_order(sold.order_id, notify=False)
    world.run(5)
    assert record(world, sold.vps_id)["deleted_at"] is None
    assert ("delete-held", f"vps:{sold.vps_id}") in world.findings()
    assert record(world, keep.vps_id)["status"] == "running"


def test_story_03_a_first_look_at_an_address_is_no_proof_of_who_was_sold(world: Bench) -> None:
    """The calls named the guest, nobody had read it yet, and the feed is an old copy: the machine that stands there
    now is the next customer's, and the order says so when it is asked by itself."""
    world.site.set_extended(extended=True)
    old = sell(world, "old-one")
    world.site.freeze_feed()
    world.clock.moment += timedelta(minutes=1)
    world.site.cancel_order(old.order_id, notify=False)
    new = world.site.place_order(user_id=2, name="old-one", notify=False)
    assert new.vmid == old.vmid, "the address was given away"
    world.site.set_status(new.id, "running", notify=False)
    world.run()
    row = record(world, old.vps_id)
    assert (row["fingerprint"], row["link_state"]) == (None, "pushed")
    assert ("not-confirmed", f"vps:{old.vps_id}") in world.findings()

    world.site.freeze_feed(frozen=False)
    world.run(2)
    (taken,) = [r for r in world.vps() if r["order_id"] == str(new.id)]
    assert (taken["user_id"], taken["vmid"], taken["link_state"]) == (6, new.vmid, "verified")
    assert record(world, old.vps_id)["fingerprint"] is None
    assert [r["id"] for r in world.client_sees(6)] == [taken["id"]]


def test_story_03_a_guest_that_an_order_names_newly_is_looked_at_anew(world: Bench) -> None:
    """The list shows the name and size of before; who stands there by now only the guest's configuration tells."""
    sold = sell_converged(world)
    other = world.pve.add_guest(900, name="another")
    # Lists tell whole seconds: one that began this very second may have begun after it was looked at.
    world.pve.set_uptime(other.vmid, 3600)
    world.run(3)

    def read_at() -> Any:
        (row,) = world._rows(f"SELECT fingerprint_read_at FROM guests WHERE vmid = {other.vmid}")
        return row["fingerprint_read_at"]

    before = read_at()
    world.run()
    assert read_at() == before, "nothing new is said of it"
    world.site.change_order(sold.order_id, vmid=other.vmid)
    world.run()
    assert read_at() > before
    assert record(world, sold.vps_id)["vmid"] == sold.vmid, "its machine is where it was"
    assert ("ambiguous", f"guest:{world.pve.name}/{other.vmid}") in world.findings()


def test_story_28_a_machine_that_moved_and_may_not_be_read_there_is_not_gone(world: Bench) -> None:
    keep, sold = sell_converged(world, "keep"), sell_converged(world, "moving")
    guest = world.pve.find_guest(sold.vmid)
    assert guest is not None
    world.pve.remove_guest(sold.vmid)
    world.pve.add_guest(900, name="moving", uuid=guest.uuid, mac=guest.mac, cores=guest.cores,
                        memory_mb=guest.memory_mb)  # fmt: skip
    world.pve.forbid_config(900)
    world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
    world.run(ABSENT + 3)
    assert record(world, sold.vps_id)["deleted_at"] is None
    (held,) = world._rows("SELECT reason FROM findings WHERE class = 'delete-held' AND resolved_at IS NULL")
    stranger = f"{world.pve.name}/900"
    assert held["reason"] == (
        f"the identity of guest {stranger} is not known, and it may be the machine of VPS {sold.vps_id}"
    )
    world.pve.forbid_config(900, forbidden=False)
    execute(world, "UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '1 hour' WHERE vmid = 900")
    world.run(2)
    assert record(world, sold.vps_id)["vmid"] == 900, "now it is known, and followed"
    assert record(world, keep.vps_id)["status"] == "running"
