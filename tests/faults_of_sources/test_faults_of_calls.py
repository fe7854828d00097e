"""The main site's calls are lost, doubled, late, or overtake each other: what is journaled, and what runs mend.

One panel for all cases, with one machine beside them that nothing may touch. Every case is a row of docs/faults.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lab.simulators.main_site.faults import CallFaultKind
from tests.faults_of_sources.conftest import MakeBench
from tests.faults_of_sources.ledger import Ledger
from tests.stories.steps import Sold, converge, sell, sell_converged
from tests.support.bench import Bench

RUNS = 3  # as many as a proof of absence takes

Play = Callable[[Bench, str], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """``play`` makes the calls and the runs of one order, sold and converged before unless ``fresh``.

    ``accepted``: calls in the journal and what they did. ``refused``: codes of those that were not accepted.
    ``written``: what runs did, sorted, links left out. ``shown``: the status its live record ends with, if it has one.
    """

    name: str
    play: Play
    accepted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    shown: str | None = None
    fresh: bool = False


def _order(world: Bench, name: str) -> int:
    return next(order.id for order in world.site.list_orders() if order.name == name)


def _create(world: Bench, name: str) -> None:
    order = world.site.place_order(user_id=1, name=name)
    world.site.set_status(order.id, "running", notify=False)


def _suspend(world: Bench, name: str) -> None:
    world.site.set_status(_order(world, name), "suspended")


def _cancel(world: Bench, name: str) -> None:
    world.site.cancel_order(_order(world, name))


def _spoilt(kind: CallFaultKind, call: Play) -> Play:
    """The call meets the fault; what can arrive has arrived before the runs."""

    def play(world: Bench, name: str) -> None:
        world.site.fault_calls(kind)
        call(world, name)
        world.drain()
        world.run(RUNS)

    return play


def _late(call: Play) -> Play:
    """The call arrives when runs have mended what it was to tell."""

    def play(world: Bench, name: str) -> None:
        world.site.fault_calls(CallFaultKind.REORDER)  # held back until the next call, or the drain
        call(world, name)
        world.run(RUNS)
        world.drain()
        world.run(RUNS)

    return play


def _update_before_create(world: Bench, name: str) -> None:
    """Only a main site that sends order ids can call about a VPS whose id it has not heard."""
    world.site.set_extended(extended=True)
    world.site.fault_calls(CallFaultKind.REORDER, action="create")
    order = world.site.place_order(user_id=1, name=name)
    world.site.set_status(order.id, "running")
    world.drain()
    world.site.set_extended(extended=False)
    world.run(RUNS)


def _resumed_before_suspended(world: Bench, name: str) -> None:
    world.site.fault_calls(CallFaultKind.REORDER)
    _suspend(world, name)
    world.site.set_status(_order(world, name), "running")
    world.drain()
    assert _shown(world, name) == ["suspended"], "applied in the order of acceptance"
    world.run(RUNS)


def _deleted_before_suspended(world: Bench, name: str) -> None:
    world.site.fault_calls(CallFaultKind.REORDER)
    _suspend(world, name)
    _cancel(world, name)
    world.drain()
    world.run(RUNS)


DROP, TWICE, UNHEARD = CallFaultKind.DROP, CallFaultKind.DUPLICATE, CallFaultKind.LOSE_ANSWER

CREATED = "create created creating"
SUSPENDED = "update running -> suspended"
HALTED = "update changed power_state"  # its guest stopped with the suspension: that, Proxmox shows
STARTED = ("update changed order_state", "update creating -> running")  # nobody called when it was ready
LINKED = "update changed cluster, fingerprint, guest_type, link_state, node, order_id, vmid"  # as its twin was
DELETED = "delete deleted"

FAULTS = (
    Fault("dropped create", _spoilt(DROP, _create), written=("create created running",), shown="running", fresh=True),
    Fault("dropped update", _spoilt(DROP, _suspend), written=(HALTED, SUSPENDED), shown="suspended"),
    Fault("dropped delete", _spoilt(DROP, _cancel), written=(DELETED, "update changed order_state")),
    Fault(
        "duplicated create",
        _spoilt(TWICE, _create),
        accepted=(CREATED, CREATED),
        written=("merge merged", *STARTED, "update unchanged running"),
        shown="running",
        fresh=True,
    ),
    Fault(
        "duplicated update",
        _spoilt(TWICE, _suspend),
        accepted=(SUSPENDED, "update unchanged suspended"),
        written=(HALTED,),
        shown="suspended",
    ),
    Fault("duplicated delete", _spoilt(TWICE, _cancel), accepted=(DELETED,)),
    Fault(
        "delayed create",
        _late(_create),
        accepted=(CREATED,),
        written=("create created running", "merge merged", LINKED, *STARTED),
        shown="running",
        fresh=True,
    ),
    Fault(
        "delayed update",
        _late(_suspend),
        accepted=("update unchanged suspended",),
        written=(HALTED, SUSPENDED),
        shown="suspended",
    ),
    Fault("delayed delete", _late(_cancel), written=(DELETED, "update changed order_state")),
    Fault(
        "reordered create",
        _update_before_create,
        accepted=(CREATED,),
        refused=("vps_unknown",),
        written=STARTED,
        shown="running",
        fresh=True,
    ),
    Fault(
        "reordered update",
        _resumed_before_suspended,
        accepted=("update unchanged running", SUSPENDED),
        written=("update suspended -> running",),
        shown="running",
    ),
    Fault("reordered delete", _deleted_before_suspended, accepted=(DELETED,), refused=("vps_deleted",)),
    Fault(
        "answer of a create lost",
        _spoilt(UNHEARD, _create),
        accepted=(CREATED,),
        written=STARTED,
        shown="running",
        fresh=True,
    ),
    Fault(
        "answer of an update lost",
        _spoilt(UNHEARD, _suspend),
        accepted=(SUSPENDED,),
        written=(HALTED,),
        shown="suspended",
    ),
    Fault("answer of a delete lost", _spoilt(UNHEARD, _cancel), accepted=(DELETED,)),
)


@pytest.fixture(scope="module")
def world(make_bench: MakeBench) -> Bench:
    return make_bench()


@pytest.fixture(scope="module")
def beside(world: Bench) -> Sold:
    """A machine of the same customer, of the same size, that no case is about."""
    made = sell(world, "beside")
    converge(world, made)
    return made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_call_fault(world: Bench, beside: Sold, fault: Fault) -> None:
    if not fault.fresh:
        sell_converged(world, fault.name)
    refused, ledger = len(_refused(world)), Ledger.open(world)

    fault.play(world, fault.name)

    assert tuple(_calls(ledger)) == fault.accepted
    assert tuple(_refused(world)[refused:]) == fault.refused
    assert tuple(_repairs(ledger)) == fault.written, "this, and nothing else"
    assert _shown(world, fault.name) == ([] if fault.shown is None else [fault.shown])
    assert beside.vps_id not in ledger.changed()
    assert world.findings() == set()
    _end(world, fault.name)


def _calls(ledger: Ledger) -> list[str]:
    """What the accepted calls did, in the order of the journal."""
    rows = ledger.world._rows(
        f"SELECT action, result, state FROM operations WHERE kind = 'sync' AND id > {ledger.last_operation} ORDER BY id"
    )
    assert {row["state"] for row in rows} <= {"applied"}
    return [f"{row['action']} {row['result']}" for row in rows]


def _repairs(ledger: Ledger) -> list[str]:
    """What runs wrote, sorted; which order and guest a record belongs to is left out, and so are ids."""
    return sorted(f"{w.action} {w.result.partition(' into ')[0]}" for w in ledger.written() if w.kind != "link")


def _end(world: Bench, name: str) -> None:
    """The customer leaves, and nothing is spoilt any more."""
    world.site.clear_faults()
    order = world.site.get_order(_order(world, name))
    for row in world.vps():
        if row["name"] == name:
            world.call("delete", id=row["id"])
    if order.status != "cancelled":
        world.site.cancel_order(order.id, notify=False)
    world.drain()


def _shown(world: Bench, name: str) -> list[str]:
    return [row["status"] for row in world.vps() if row["name"] == name]


def _refused(world: Bench) -> list[str]:
    return [row["code"] for row in world._rows("SELECT code FROM refused_calls ORDER BY id")]
