"""What the fast lane's gate holds waits for an operator like everything else, and it ends no full run's sets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from panel.operators.approvals.deciding import decide_hold
from panel.operators.holds import Decision, HeldSet, list_holds
from tests.stories.steps import Sold, converge, sell, statuses
from tests.support.bench import Bench, bench
from tests.support.databases import Database

STOPPED = "flips:main:to stopped"


@pytest.fixture
def narrow(database: Database, engine: Engine) -> Iterator[Bench]:
    """More than one machine of a cluster that stops at once is held."""
    with bench(database, engine, budget_flips_min=1, budget_flips_share=0) as made:
        yield made


def three_stopped(world: Bench) -> tuple[Sold, ...]:
    """Seen twice by the fast lane, so that they are due."""
    sold = tuple(sell(world, f"web-{n}") for n in range(3))
    converge(world, *sold)
    for one in sold:
        world.pve.set_status(one.vmid, "stopped")
    world.fast(2)
    assert set(statuses(world).values()) == {"running"}
    return sold


def held(world: Bench) -> list[HeldSet]:
    with world.engine.connect() as connection:
        return list_holds(connection)


def decide(world: Bench, one: HeldSet, decision: Decision) -> None:
    with world.engine.begin() as connection:
        decide_hold(connection, one.hash, decision, "cli:test", above=None)


def test_a_held_set_is_listed_and_waits_one_further_run(narrow: Bench) -> None:
    sold = three_stopped(narrow)
    (one,) = held(narrow)
    assert (one.scope, sorted(item["subject"] for item in one.items)) == (
        STOPPED,
        sorted(f"vps:{s.vps_id}" for s in sold),
    )
    assert ("held", f"scope:{STOPPED}") in narrow.findings()
    narrow.fast()
    assert set(statuses(narrow).values()) == {"stopped"}
    narrow.fast()
    assert held(narrow) == []
    assert "held" not in narrow.finding_classes()


def test_a_rejected_set_stays_and_an_approval_takes_it_back(narrow: Bench) -> None:
    three_stopped(narrow)
    (one,) = held(narrow)
    decide(narrow, one, Decision.REJECTED)
    narrow.fast(2)
    narrow.run()
    assert set(statuses(narrow).values()) == {"running"}
    assert held(narrow) == []
    decide(narrow, one, Decision.APPROVED)
    narrow.fast()
    assert set(statuses(narrow).values()) == {"stopped"}


def test_a_flip_that_came_to_nothing_does_not_let_the_next_one_through(narrow: Bench) -> None:
    sold = three_stopped(narrow)
    for one in sold:
        narrow.pve.set_status(one.vmid, "running")
    narrow.fast()
    assert held(narrow) == []
    for one in sold:
        narrow.pve.set_status(one.vmid, "stopped")
    narrow.fast(2)
    assert [one.scope for one in held(narrow)] == [STOPPED]
    assert set(statuses(narrow).values()) == {"running"}


def test_both_lanes_keep_one_set_of_a_held_class(database: Database, engine: Engine) -> None:
    """The fast lane sees power only: it may not take a suspension out of the set, nor give it another hash."""
    with bench(database, engine, repair_policy={"missed-status": "hold"}) as world:
        one, other = sell(world, "one"), sell(world, "other")
        converge(world, one, other)
        world.site.set_status(one.order_id, "suspended", notify=False)
        world.pve.set_status(one.vmid, "running")  # the main site had stopped it
        world.pve.set_status(other.vmid, "stopped")
        world.run(2)
        (first,) = held(world)
        assert (first.scope, len(first.items)) == ("class:missed-status", 2)
        world.fast(2)
        world.run()
        assert [h.hash for h in held(world)] == [first.hash]
        decide(world, first, Decision.APPROVED)
        world.fast()
        assert statuses(world) == {one.vps_id: "running", other.vps_id: "stopped"}
        world.run()
        assert statuses(world) == {one.vps_id: "suspended", other.vps_id: "stopped"}


def test_the_fast_lane_ends_no_set_of_deletes(world: Bench) -> None:
    keep, *gone = (sell(world, f"web-{n}") for n in range(4))
    converge(world, keep, *gone)
    for one in gone:
        world.site.cancel_order(one.order_id, remove_guest=False, notify=False)
        world.pve.remove_guest(one.vmid)
    world.run(3)
    (before,) = held(world)
    world.fast(2)
    assert [h.hash for h in held(world)] == [before.hash]
    assert ("held", "scope:deletes:user:5") in world.findings()
