"""Stories of a machine that is replaced by another at the same address: nothing of the new one reaches the old client.

Only a configuration says who stands at an address. Between two of its reads anything that could mean another machine
puts the identity in doubt, and a guest in doubt says nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from panel.operators.pauses import CLUSTER, pause, resume
from reconcile.run import rolling_read
from sources.proxmox.cluster import ClusterSource
from tests.stories.steps import execute, guest_facts, guest_row, long_running, record, swap
from tests.support.bench import Bench


def configs_read(world: Bench) -> int:
    """How often a configuration was asked for."""
    return sum(request.path.endswith("/config") for request in world.pve.list_requests())


def test_story_07_a_gapless_swap_shows_nothing_of_the_new_machine_while_it_is_switched_over(world: Bench) -> None:
    """The next customer's machine has the same VMID, name and size, and every list has shown one at that address."""
    sold = long_running(world)
    before = guest_facts(world, sold)
    swap(world, sold)
    for status in ("stopped", "running", "stopped", "running"):
        world.fast(2)
        assert guest_facts(world, sold) == before
        world.pve.set_status(sold.vmid, status)
    world.fast(2)
    assert guest_facts(world, sold) == before
    (seen,) = world.client_sees(5)
    assert seen["as_of"] < guest_row(world, sold)["fingerprint_read_at"].isoformat(), "it has its age"


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_story_07_a_swap_while_the_cluster_was_paused_shows_nothing_of_the_new_machine(
    world: Bench, status: str
) -> None:
    sold = long_running(world)
    before = guest_facts(world, sold)
    with world.engine.begin() as connection:
        pause(connection, f"{CLUSTER}main", "a test", timedelta(hours=1), "cli:test")
    world.fast()
    new = swap(world, sold, status)
    with world.engine.begin() as connection:
        resume(connection, f"{CLUSTER}main")
    world.fast(3)
    assert guest_facts(world, sold) == before
    assert guest_row(world, sold)["fingerprint"] == new, "its configuration was read at once"


def test_story_07_a_stopped_machine_is_in_doubt_after_a_gap_and_a_running_one_proves_itself(world: Bench) -> None:
    """After an outage only those that prove nothing are asked."""
    running, stopped = long_running(world, "runs"), long_running(world, "stands")
    world.pve.set_status(stopped.vmid, "stopped")
    world.fast(3)
    assert record(world, stopped.vps_id)["power_state"] == "stopped"
    world.fast()
    asked = configs_read(world)
    execute(world, "UPDATE scopes SET began_at = began_at - interval '3 minutes' WHERE source = 'proxmox:main'")
    world.fast()
    assert configs_read(world) == asked + 1
    read = {one: guest_row(world, one)["fingerprint_read_at"] for one in (running, stopped)}
    assert read[stopped] > read[running], "the one that proves nothing was asked"


def test_story_07_a_quiet_fleet_asks_nothing_and_writes_nothing(world: Bench) -> None:
    sold = [long_running(world, f"web-{n}") for n in range(3)]
    world.pve.set_status(sold[0].vmid, "stopped")
    world.run(3)
    asked = configs_read(world)
    rows = world._rows("SELECT xmin::text, ctid::text FROM guests ORDER BY vmid")
    records = world._rows("SELECT xmin::text FROM vps ORDER BY id")
    world.fast(3)
    world.run(2)
    assert configs_read(world) == asked
    assert world._rows("SELECT xmin::text, ctid::text FROM guests ORDER BY vmid") == rows
    assert world._rows("SELECT xmin::text FROM vps ORDER BY id") == records


def test_story_07_power_follows_within_a_run_of_the_fast_lane_though_each_switch_is_a_doubt(world: Bench) -> None:
    sold = long_running(world)
    asked = configs_read(world)
    world.pve.set_status(sold.vmid, "stopped")
    world.fast(2)
    assert record(world, sold.vps_id)["status"] == "stopped"
    world.pve.set_status(sold.vmid, "running")
    world.fast()
    assert record(world, sold.vps_id)["status"] == "running"
    assert configs_read(world) - asked <= 4, "once for a switch, and once more while it has run for less than a second"


def test_story_07_a_pushed_link_that_conflicts_puts_the_identity_in_doubt(extended_world: Bench) -> None:
    world = extended_world
    sold = long_running(world)
    execute(world, "UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '1 minute'")
    before = guest_row(world, sold)["fingerprint_read_at"]
    world.call("create", user_id=6, name="b", cpu=1, ram=1024, disk=10, os="Debian", status="running", order_id="999",
               cluster="main", vmid=sold.vmid)  # fmt: skip
    world.drain()
    assert "link-conflict" in world.finding_classes()
    row = guest_row(world, sold)
    assert (row["fingerprint_state"], row["doubt"]) == ("stale", "call")
    world.pve.forbid_config(sold.vmid)
    world.pve.set_status(sold.vmid, "stopped")
    world.fast(3)
    assert record(world, sold.vps_id)["power_state"] == "running", "nothing flows before it was read"
    world.pve.forbid_config(sold.vmid, forbidden=False)
    execute(world, "UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '1 hour'")
    world.run(2)
    world.fast(2)
    assert record(world, sold.vps_id)["power_state"] == "stopped", "it is the same machine"
    assert guest_row(world, sold)["fingerprint_read_at"] > before


@pytest.mark.parametrize("how", ["names", "stops", "ends", "vanishes"])
def test_story_07_an_order_that_begins_or_ceases_to_name_a_guest_puts_it_in_doubt(world: Bench, how: str) -> None:
    sold, other = long_running(world), long_running(world, "other")
    watched = sold
    execute(world, "UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '1 minute'")
    read_at = guest_row(world, sold)["fingerprint_read_at"]
    world.run()
    assert guest_row(world, watched)["fingerprint_read_at"] == read_at
    match how:
        case "names":
            world.site.change_order(other.order_id, vmid=sold.vmid)
        case "stops":
            world.site.change_order(sold.order_id, vmid=990)
        case "ends":
            world.site.cancel_order(sold.order_id, remove_guest=False, notify=False)
        case "vanishes":
            world.site.remove_order(sold.order_id)
    world.run()
    assert guest_row(world, watched)["fingerprint_read_at"] > read_at
    assert guest_row(world, watched)["doubt"] is None


def test_story_07_a_guest_that_one_list_left_out_is_asked_who_it_is(world: Bench) -> None:
    sold = long_running(world)
    execute(world, "UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '1 minute'")
    read_at = guest_row(world, sold)["fingerprint_read_at"]
    guest = world.pve.find_guest(sold.vmid)
    assert guest is not None
    world.pve.remove_guest(sold.vmid)
    world.fast()
    swap_in = world.pve.add_guest(sold.vmid, name=guest.name, node=guest.node, uuid=guest.uuid, mac=guest.mac)
    world.pve.set_uptime(swap_in.vmid, 3600)
    world.fast()
    assert guest_row(world, sold)["fingerprint_read_at"] > read_at


def test_story_07_another_disk_size_of_a_stopped_guest_is_a_doubt(world: Bench) -> None:
    sold = long_running(world)
    world.pve.set_status(sold.vmid, "stopped")
    world.fast(3)
    world.pve.change_guest(sold.vmid, disk_gb=70)
    read_at = guest_row(world, sold)["fingerprint_read_at"]
    world.fast()
    assert guest_row(world, sold)["fingerprint_read_at"] > read_at


def test_story_07_a_configuration_that_was_asked_for_before_a_call_proves_nothing(
    extended_world: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call arrives while the answer is on its way: it may be the answer of the machine before."""
    world, real = extended_world, ClusterSource.config
    sold = long_running(world)
    body: dict[str, Any] = {"user_id": 6, "name": "b", "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian"}
    world.pve.set_status(sold.vmid, "stopped")

    def config(source: ClusterSource, *guest: Any) -> Any:
        answer = real(source, *guest)
        monkeypatch.setattr(ClusterSource, "config", real)
        world.call("create", **body, order_id="999", cluster="main", vmid=sold.vmid)
        world.drain()
        return answer

    monkeypatch.setattr(ClusterSource, "config", config)
    world.fast()
    assert (guest_row(world, sold)["fingerprint_state"], guest_row(world, sold)["doubt"]) == ("stale", "call")


# --- the rolling read


def test_story_07_whose_configuration_was_read_longest_ago_is_read_again_between_the_runs(world: Bench) -> None:
    first, second = long_running(world, "first"), long_running(world, "second")
    execute(world, "UPDATE guests SET fingerprint_read_at = fingerprint_read_at - interval '6 minutes'")
    execute(world, f"UPDATE guests SET fingerprint_read_at = clock_timestamp() WHERE vmid = {second.vmid}")
    old = {one: guest_row(world, one)["fingerprint_read_at"] for one in (first, second)}
    new = swap(world, first)
    assert rolling_read(world.reconciler()) == 1
    row = guest_row(world, first)
    assert (row["fingerprint"], row["fingerprint_read_at"] > old[first]) == (new, True)
    assert guest_row(world, second)["fingerprint_read_at"] == old[second], "it was read within five minutes"
    before = guest_facts(world, first)
    world.pve.set_status(first.vmid, "stopped")
    world.fast(3)
    assert guest_facts(world, first) == before


def test_story_07_all_reads_of_configurations_together_keep_to_two_a_second(world: Bench) -> None:
    sold = long_running(world)
    execute(
        world,
        "INSERT INTO guests (cluster, vmid, guest_type, node, status, power, power_since, template, signature,"
        " fingerprint_state, fingerprint_read_at, first_seen_at, changed_at, read_at)"
        " SELECT 'main', 10000 + n, 'qemu', 'pve1', 'running', 'running', now(), false, '', 'read', clock_timestamp(),"
        " now(), now(), now() FROM generate_series(1, 120) n",
    )
    execute(
        world,
        f"UPDATE guests SET fingerprint_read_at = now() - interval '1 hour' WHERE vmid = {sold.vmid}",
    )
    assert rolling_read(world.reconciler()) == 0, "120 were read within the minute"
    execute(world, "UPDATE guests SET fingerprint_read_at = now() - interval '2 minutes' WHERE vmid = 10001")
    assert rolling_read(world.reconciler()) == 1
