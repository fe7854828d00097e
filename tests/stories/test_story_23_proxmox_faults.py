"""Story 23: whatever Proxmox says while it is not well, nothing is deleted and no status is invented.

One panel with two clusters for all cases. In each, the faulty cluster holds a machine whose deletion would be
proven if its lists were believed, and a machine whose state really changed; a machine in the healthy cluster
changes too, and that change is followed while the fault lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from panel.sessions import sync_engine
from simulators.proxmox.server import ProxmoxServer
from tests.stories.steps import Sold, execute, last_repair, record, repairs_since, sell, settle, statuses
from tests.support.bench import Bench, bench
from tests.support.databases import Databases

pytestmark = pytest.mark.xdist_group("story_23")

RUNS = 5  # two more than a proof of absence takes


@dataclass(frozen=True, slots=True)
class Fault:
    """``begin`` makes a cluster ill. ``victim`` is the machine that is truly gone. ``told``: part of a problem that
    the run must report, or None where the fault is found out by the confirmation alone."""

    name: str
    begin: Callable[[ProxmoxServer, Sold], None]
    told: str | None
    changes_are_followed: bool = False  # on the nodes that are well
    believed: bool = True  # whether the list may be used for anything


def _gone(pve: ProxmoxServer, victim: Sold) -> None:
    if pve.find_guest(victim.vmid) is not None:
        pve.remove_guest(victim.vmid)


def _empty(pve: ProxmoxServer, victim: Sold) -> None:
    pve.empty_list()
    _gone(pve, victim)


def _unknown(pve: ProxmoxServer, victim: Sold) -> None:
    pve.all_unknown()
    _gone(pve, victim)


def _refused(pve: ProxmoxServer, victim: Sold) -> None:
    pve.revoke_token()
    _gone(pve, victim)


def _blind(pve: ProxmoxServer, victim: Sold) -> None:
    pve.blind_token()
    _gone(pve, victim)


def _offline(pve: ProxmoxServer, victim: Sold) -> None:
    pve.set_node_online("pve2", online=False)
    _gone(pve, victim)


def _offline_forgotten(pve: ProxmoxServer, victim: Sold) -> None:
    _offline(pve, victim)
    pve.expire_status_cache()


def _no_quorum(pve: ProxmoxServer, victim: Sold) -> None:
    pve.set_quorum(quorate=False)
    _gone(pve, victim)


def _frozen_minority(pve: ProxmoxServer, victim: Sold) -> None:
    """The list of a node that was cut off: from before the others moved on."""
    pve.freeze_list()
    pve.set_quorum(quorate=False)
    _gone(pve, victim)


def _frozen_without_one(pve: ProxmoxServer, victim: Sold) -> None:
    """A list that stands still in a moment in which a machine (really there) was away."""
    guest = pve.find_guest(victim.vmid)
    assert guest is not None
    pve.remove_guest(victim.vmid)
    pve.freeze_list()
    pve.add_guest(victim.vmid, node=guest.node, name=guest.name, uuid=guest.uuid)


def _node_fails(status: int) -> Callable[[ProxmoxServer, Sold], None]:
    def begin(pve: ProxmoxServer, victim: Sold) -> None:
        pve.fail_node("pve2", status)
        _gone(pve, victim)

    return begin


FAULTS = (
    Fault("200 and an empty list", _empty, "vanished at once"),
    Fault("everything unknown", _unknown, "no known state", believed=False),
    Fault("401", _refused, "refused", believed=False),
    Fault("a token without rights", _blind, "token", believed=False),
    Fault("one node offline", _offline, "node(s) offline: pve2", changes_are_followed=True),
    Fault(
        "one node offline, its states forgotten", _offline_forgotten, "node(s) offline: pve2", changes_are_followed=True
    ),
    Fault("no quorum", _no_quorum, "quorum", believed=False),
    Fault("the frozen list of a minority", _frozen_minority, "quorum", believed=False),
    Fault("a frozen list without one guest", _frozen_without_one, None),
    Fault("595 from a node", _node_fails(595), None, changes_are_followed=True),
    Fault("596 from a node", _node_fails(596), None, changes_are_followed=True),
)


@pytest.fixture(scope="module")
def world(databases: Databases) -> Iterator[Bench]:
    database = databases.clone()
    engine = sync_engine(database.app_url, "panel-sync test", pool_size=4)
    with bench(database, engine, clusters=("main", "second")) as made:
        yield made
    engine.dispose()
    databases.drop(database)


@pytest.fixture(scope="module")
def standing(world: Bench) -> dict[str, Sold]:
    """Machines that outlive all cases."""
    made = {
        "on pve1": sell(world, "one", node="pve1"),
        "on pve2": sell(world, "two", node="pve2"),
        "other": sell(world, "other", cluster="second", user_id=2),
        "also": sell(world, "also", cluster="second", user_id=2),
    }
    settle(world, *made.values())
    return made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_story_23_proxmox_ill(world: Bench, standing: dict[str, Sold], fault: Fault) -> None:
    victim = sell(world, "victim", node="pve2")
    settle(world, victim)
    main, second = world.clusters["main"], world.clusters["second"]
    before, last = statuses(world), last_repair(world)
    world.site.cancel_order(victim.order_id, remove_guest=False, notify=False)
    fault.begin(main, victim)
    second.set_status(standing["other"].vmid, "stopped")
    main.set_status(standing["on pve2"].vmid, "stopped")  # nobody can see that
    if fault.changes_are_followed:
        main.set_status(standing["on pve1"].vmid, "stopped")
    if fault.name.startswith("one node offline"):
        assert main.find_guest(standing["on pve2"].vmid) is not None

    snapshots = _believed(world)
    problems: set[str] = set()
    for number in range(RUNS):
        problems |= set(world.run().problems)
        if number < 2:
            world.fast()
    assert (_believed(world) > snapshots) is fault.believed

    expected = before | {standing["other"].vps_id: "stopped"}
    if fault.changes_are_followed:
        expected[standing["on pve1"].vps_id] = "stopped"
    now = statuses(world)
    if fault.told is None and fault.name != "a frozen list without one guest":
        expected[standing["on pve2"].vps_id] = "stopped"  # the cluster's own list is whole
    assert now == expected
    assert [r["action"] for r in repairs_since(world, last) if r["action"] != "update"] == []
    assert record(world, victim.vps_id)["deleted_at"] is None
    if fault.told is not None:
        assert any(fault.told in problem for problem in problems), problems
    else:
        assert ("not-confirmed", f"vps:{victim.vps_id}") in world.findings(), "it came to the confirmation"

    _recover(world, standing, victim, fault)


def _believed(world: Bench) -> int:
    """How many reads of the faulty cluster were kept as good ones."""
    (row,) = world._rows("SELECT count(*) AS n FROM snapshots WHERE source = 'proxmox:main' AND complete")
    return int(row["n"])


def _recover(world: Bench, standing: dict[str, Sold], victim: Sold, fault: Fault) -> None:
    """Well again: everything is followed, and what is truly gone is deleted, so the fault alone prevented it."""
    main = world.clusters["main"]
    main.clear_faults()
    _gone(main, victim)
    execute(world, "UPDATE source_states SET circuit = NULL")  # the pause after a refused token is over
    main.set_status(standing["on pve2"].vmid, "running")
    main.set_status(standing["on pve1"].vmid, "running")
    world.clusters["second"].set_status(standing["other"].vmid, "running")
    world.run(5)
    assert statuses(world) == {one.vps_id: "running" for one in standing.values()}, fault.name
    assert record(world, victim.vps_id)["deleted_at"] is not None
    assert world.findings() == set()
    assert world.results[-1].problems == ()
