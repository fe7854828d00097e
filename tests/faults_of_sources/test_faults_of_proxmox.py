"""Story 23: whatever Proxmox says while it is not well, nothing is deleted and no status is invented.

One panel with two clusters for all cases. In each, the faulty cluster holds a machine whose deletion would be
proven if its lists were believed, and machines whose state really changed; a machine in the healthy cluster changes
too, and that change is followed while the fault lasts. Every case is a row of docs/faults.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lab.simulators.proxmox.server import ProxmoxServer
from lab.simulators.proxmox.verbs import Guest
from tests.faults_of_sources.conftest import MakeBench
from tests.faults_of_sources.ledger import Ledger, Write
from tests.stories.steps import Sold, converge, execute, record, sell, statuses
from tests.support.bench import Bench

RUNS = 4  # one more than a proof of absence takes
MOVED_ON = ("pve1", "pve2")  # the nodes on which a machine changes its power

Begin = Callable[[ProxmoxServer, Sold], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """``begin`` makes the cluster ill; the victim's guest, which was on pve2, is gone unless it says otherwise.

    ``told``: part of a problem that runs report, None if none is. ``believed``: whether its lists may be used at
    all. ``follows``: on which nodes power is still followed. ``counts``: whether the victim's absence counts.
    ``confirmed``: the victim is deleted while the fault lasts. ``asked``: how many requests the cluster gets.
    """

    name: str
    begin: Begin
    told: str | None
    believed: bool = True
    follows: tuple[str, ...] = ()
    counts: bool = False
    confirmed: bool = False
    asked: int | None = None
    gone: bool = True


def _guest(pve: ProxmoxServer, victim: Sold) -> Guest:
    guest = pve.find_guest(victim.vmid)
    assert guest is not None
    return guest


def _offline_forgotten(pve: ProxmoxServer, _: Sold) -> None:
    pve.set_node_online("pve2", online=False)
    pve.expire_status_cache()


def _frozen_minority(pve: ProxmoxServer, _: Sold) -> None:
    """The list of a node that was cut off: from before the others moved on."""
    pve.freeze_list()
    pve.set_quorum(quorate=False)


def _not_listed(*, then_on: str) -> Begin:
    """A list that stands still in a moment in which a machine (really there) was away."""

    def begin(pve: ProxmoxServer, victim: Sold) -> None:
        guest = _guest(pve, victim)
        pve.remove_guest(victim.vmid)
        pve.freeze_list()
        pve.add_guest(victim.vmid, node=then_on, name=guest.name, uuid=guest.uuid)

    return begin


def _every_address_down(pve: ProxmoxServer, _: Sold) -> None:
    for index in range(len(pve.urls)):
        pve.set_endpoint_up(index, up=False)


def _sees_one_guest(pve: ProxmoxServer, victim: Sold) -> None:
    pve.set_token_rights({"/": ["Sys.Audit"], f"/vms/{victim.vmid - 1}": ["VM.Audit"]})


BOTH = MOVED_ON

FAULTS = (
    # the token
    Fault("401", lambda pve, _: pve.revoke_token(), "refused", believed=False, asked=1),
    Fault("blind token", lambda pve, _: pve.blind_token(), "lacks VM.Audit on /vms", believed=False),
    Fault("token for one guest", _sees_one_guest, "lacks VM.Audit on /vms", believed=False),
    Fault(
        "token without Sys.Audit",
        lambda pve, _: pve.set_token_rights({"/vms": ["VM.Audit"]}),
        "Sys.Audit",
        believed=False,
    ),
    # the list
    Fault("empty list", lambda pve, _: pve.empty_list(), "vanished at once"),
    Fault("all unknown", lambda pve, _: pve.all_unknown(), "no known state", believed=False),
    Fault(
        "half an answer",
        lambda pve, _: pve.truncate_answers("/cluster/resources"),
        "before the whole answer had arrived",
        believed=False,
    ),
    Fault("list without one guest", _not_listed(then_on="pve2"), None, counts=True, gone=False),
    Fault("migration between list and confirmation", _not_listed(then_on="pve3"), None, counts=True, gone=False),
    # nodes and quorum. A machine that was switched over on a node that does not answer is in doubt until it is read.
    Fault(
        "offline node",
        lambda pve, _: pve.set_node_online("pve2", online=False),
        "node(s) offline: pve2",
        follows=("pve1",),
    ),
    Fault("offline node, states forgotten", _offline_forgotten, "node(s) offline: pve2", follows=("pve1",)),
    Fault(
        "another node offline",
        lambda pve, _: pve.set_node_online("pve3", online=False),
        "node(s) offline: pve3",
        follows=BOTH,
        counts=True,
        confirmed=True,
    ),
    Fault("no quorum", lambda pve, _: pve.set_quorum(quorate=False), "quorum", believed=False),
    Fault("frozen minority list", _frozen_minority, "quorum", believed=False),
    Fault("595", lambda pve, _: pve.fail_node("pve2", 595), None, follows=("pve1",), counts=True),
    Fault("596", lambda pve, _: pve.fail_node("pve2", 596), None, follows=("pve1",), counts=True),
    # addresses and versions
    Fault("every address down", _every_address_down, "", believed=False),
    Fault(
        "one address down",
        lambda pve, _: pve.set_endpoint_up(0, up=False),
        None,
        follows=BOTH,
        counts=True,
        confirmed=True,
    ),
    Fault(
        "slow version",
        lambda pve, _: pve.set_version("9.0.5"),
        "update it to 9.0.8",
        follows=BOTH,
    ),
)


@pytest.fixture(scope="module")
def world(make_bench: MakeBench) -> Bench:
    return make_bench(clusters=("main", "second"), endpoints=2)


@pytest.fixture(scope="module")
def existing(world: Bench) -> dict[str, Sold]:
    """Machines that outlive all cases."""
    made = {node: sell(world, f"on-{node}", node=node) for node in MOVED_ON}
    made |= {name: sell(world, name, cluster="second", user_id=2) for name in ("other", "also")}
    converge(world, *made.values())
    return made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_story_23_proxmox_fault(world: Bench, existing: dict[str, Sold], fault: Fault) -> None:
    victim = sell(world, "victim", node="pve2")
    converge(world, victim)
    main, second = world.clusters["main"], world.clusters["second"]
    before, ledger = statuses(world), Ledger.open(world)
    world.site.cancel_order(victim.order_id, remove_guest=False, notify=False)
    fault.begin(main, victim)
    if fault.gone:
        main.remove_guest(victim.vmid)
    second.set_status(existing["other"].vmid, "stopped")
    for node in MOVED_ON:
        main.set_status(existing[node].vmid, "stopped")

    problems: set[str] = set()
    for number in range(RUNS):
        problems |= set(world.run().problems)
        if number < 2:
            world.fast()

    stopped = {existing["other"].vps_id} | {existing[node].vps_id for node in fault.follows}
    writes = [Write(vps_id, "update", "running -> stopped", "missed-status") for vps_id in stopped]
    writes.append(Write(victim.vps_id, "update", "changed order_state", "missed-status"))  # the feed is well
    if fault.confirmed:
        writes.append(Write(victim.vps_id, "delete", "deleted", "missed-delete"))
    assert ledger.written() == sorted(writes), "this, and nothing else"
    expected = before | dict.fromkeys(stopped, "stopped")
    if fault.confirmed:
        del expected[victim.vps_id]
    assert statuses(world) == expected
    absences = ledger.counted()
    assert set(absences) <= {f"main/{victim.vmid}"}, "nobody else is missed"
    assert (f"main/{victim.vmid}" in absences) is fault.counts
    assert (ledger.kept("proxmox:main") > 0) is fault.believed
    assert ledger.kept("proxmox:second") > 0
    if fault.asked is not None:
        assert ledger.asked("main") == fault.asked, "each further request would be one too many"
    if fault.told is not None:
        assert any(p.startswith("main: ") and fault.told in p for p in problems), problems
    held_back = ("not-confirmed", f"vps:{victim.vps_id}") in world.findings()
    assert held_back is (fault.counts and not fault.confirmed), "whether it came to the confirmation"

    _recover(world, existing, victim, fault)


def _recover(world: Bench, existing: dict[str, Sold], victim: Sold, fault: Fault) -> None:
    """Well again: everything is followed, and what is truly gone is deleted, so the fault alone prevented it."""
    main = world.clusters["main"]
    main.clear_faults()
    main.set_version("9.2.1")
    if main.find_guest(victim.vmid) is not None:
        main.remove_guest(victim.vmid)
    execute(world, "UPDATE source_states SET backoff_state = NULL")  # the pause after a refused token is over
    for node in MOVED_ON:
        main.set_status(existing[node].vmid, "running")
    world.clusters["second"].set_status(existing["other"].vmid, "running")
    world.run(4)
    assert statuses(world) == {one.vps_id: "running" for one in existing.values()}, fault.name
    assert record(world, victim.vps_id)["deleted_at"] is not None
    assert world.findings() == set()
    assert world.results[-1].problems == ()
