"""Story 24: whatever the order feed says while it is not well, nothing is deleted; what it did show may heal.

One panel for all cases. In each, one order and its guest are really gone (an orphan, were the feed believed), one
order that the first page shows is suspended, and a machine changes its power. Every case is a row of docs/faults.md.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta

import pytest

from lab.simulators.main_site.faults import FeedFaultKind
from tests.faults_of_sources.conftest import MakeBench
from tests.faults_of_sources.ledger import Ledger, Write
from tests.stories.steps import Sold, converge, execute, record, sell, statuses
from tests.support.bench import Bench
from tests.support.waiting import wait_until

PROOF = 3  # reads; more of them are not counted
RUNS = PROOF + 1
STATUS = "missed-status"


@dataclass(frozen=True, slots=True)
class Fault:
    """``page``: which page is spoilt. ``heals``: whether the first order is still shown. ``told``: in a problem."""

    name: str
    kind: FeedFaultKind
    told: str
    page: int | None = None
    value: float | None = None
    heals: bool = True


FAULTS = (
    Fault("truncated", FeedFaultKind.CUT_BODY, "page 2 of orders", page=2),
    Fault("shrunk", FeedFaultKind.SHRINK, "vanished at once", value=0.1),
    Fault("empty", FeedFaultKind.EMPTY, "vanished at once", heals=False),
    Fault("repeated page", FeedFaultKind.REPEAT_ID, "repeated or out of order", page=2),
    Fault("5xx", FeedFaultKind.STATUS, "answered 500", value=500, heals=False),
    Fault("5xx on a later page", FeedFaultKind.STATUS, "answered 500", page=2, value=500),
    Fault("another total on a later page", FeedFaultKind.TOTAL_CHANGES, "total", page=2),
    Fault("empty page with a cursor", FeedFaultKind.EMPTY_PAGE, "is empty but has a next_cursor", page=2),
    Fault("a proxy's page", FeedFaultKind.HTML, "not JSON", heals=False),
    Fault("401", FeedFaultKind.UNAUTHORIZED, "MAIN_SITE_API_KEY is refused", heals=False),
    Fault("no as_of", FeedFaultKind.NO_AS_OF, "as_of", heals=False),
)


@pytest.fixture(scope="module")
def world(make_bench: MakeBench) -> Bench:
    made = make_bench()
    made.page_limit = 3
    return made


@pytest.fixture(scope="module")
def existing(world: Bench) -> list[Sold]:
    """Seven machines that outlive all cases: three pages with the victim."""
    made = [sell(world, f"existing-{n}", user_id=1 + n % 2) for n in range(7)]
    converge(world, *made)
    return made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_story_24_feed_fault(world: Bench, existing: list[Sold], fault: Fault) -> None:
    victim = sell(world, "victim")
    converge(world, victim)
    before, ledger = statuses(world), Ledger.open(world)
    world.site.remove_order(victim.order_id)
    world.pve.remove_guest(victim.vmid)
    world.site.set_status(existing[0].order_id, "suspended", notify=False)
    world.pve.set_status(existing[1].vmid, "stopped")
    world.site.fault_feed(fault.kind, page=fault.page, value=fault.value, path="/orders")

    problems: set[str] = set()
    for _ in range(RUNS):
        problems |= set(world.run().problems)

    # The guest of the first order stopped with its suspension: that, Proxmox shows.
    writes = {
        Write(existing[0].vps_id, "update", "changed power_state" if fault.heals else "running -> stopped", STATUS),
        Write(existing[1].vps_id, "update", "running -> stopped", STATUS),
    }
    if fault.heals:
        writes.add(Write(existing[0].vps_id, "update", "running -> suspended", STATUS))
    assert ledger.written() == sorted(writes), "this, and nothing else"
    shown = "suspended" if fault.heals else "stopped"
    assert statuses(world) == before | {existing[0].vps_id: shown, existing[1].vps_id: "stopped"}
    assert ledger.changed().get(victim.vps_id) is None, "neither deleted nor called missing on an old word of the feed"
    assert ledger.counted() == {f"main/{victim.vmid}": PROOF}, "Proxmox's word counts, that of the feed does not"
    assert ledger.kept("orders") == 0
    assert any(fault.told in problem for problem in problems), problems

    _recover(world, existing, victim)


def _recover(world: Bench, existing: list[Sold], victim: Sold) -> None:
    """Well again: the feed is believed, and the orphan goes after a proof of its own."""
    world.site.clear_faults()
    world.site.set_status(existing[0].order_id, "running", notify=False)
    world.pve.set_status(existing[1].vmid, "running")
    world.run(2)
    assert record(world, victim.vps_id)["deleted_at"] is None, "what was missed under the fault counts for nothing"
    world.run(2)
    assert record(world, victim.vps_id)["deleted_at"] is not None
    assert statuses(world) == {one.vps_id: "running" for one in existing}
    assert world.findings() == set()


BEHIND = ("an hour behind", "standing still for an hour")


@pytest.mark.parametrize("how", BEHIND)
def test_story_24_a_feed_of_an_hour_ago(world: Bench, existing: list[Sold], how: str) -> None:
    """After two hours without a read its words are news, but not of a record that was told something since."""
    victim = sell(world, "victim")
    converge(world, victim)
    told, untold = existing[0], existing[1]
    execute(world, "UPDATE scopes SET began_at = began_at - interval '2 hours' WHERE source = 'orders'")
    execute(world, "UPDATE orders_seen SET effective_at = effective_at - interval '2 hours'")
    update = "UPDATE vps SET order_changed_at = order_changed_at - interval '2 hours' WHERE id = :id"
    execute(world, update, id=untold.vps_id)
    before, ledger = statuses(world), Ledger.open(world)
    world.site.remove_order(victim.order_id)
    world.pve.remove_guest(victim.vmid)
    for one in (told, untold):
        world.site.set_status(one.order_id, "suspended", notify=False)
    if how == "an hour behind":
        world.site.fault_feed(FeedFaultKind.AS_OF_LAG, value=3600, path="/orders")
    else:
        world.site.freeze_feed()
        world.clock.moment += timedelta(hours=1)

    problems: set[str] = set()
    for _ in range(RUNS):
        problems |= set(world.run().problems)

    assert ledger.written() == sorted(
        {
            Write(told.vps_id, "update", "running -> stopped", STATUS),  # that, Proxmox shows
            Write(untold.vps_id, "update", "running -> suspended", STATUS),
            Write(untold.vps_id, "update", "changed power_state", STATUS),
        }
    )
    assert statuses(world) == before | {told.vps_id: "stopped", untold.vps_id: "suspended"}
    assert ledger.counted()[f"main/{victim.vmid}"] == PROOF
    assert ledger.counted().get(str(victim.order_id), 0) < PROOF, (
        "nothing that was missed an hour ago proves an absence"
    )
    assert record(world, victim.vps_id)["deleted_at"] is None
    assert any("older than 300 s" in problem for problem in problems), problems

    world.site.freeze_feed(frozen=False)
    world.site.set_status(untold.order_id, "running", notify=False)
    _recover(world, existing, victim)


def test_story_24_a_slow_feed_undoes_no_newer_call(world: Bench, existing: list[Sold]) -> None:
    """An answer made before the call arrives after it was applied."""
    sold, ledger = existing[0], Ledger.open(world)
    world.site.fault_feed(FeedFaultKind.SLOW, times=1, page=1, value=1.5, path="/orders")
    run = threading.Thread(target=world.run)
    run.start()
    wait_until(lambda: not world.site.list_feed_faults(), "the slow page to be asked for")
    world.site.set_status(sold.order_id, "suspended")
    world.drain()
    assert statuses(world)[sold.vps_id] == "suspended"
    assert run.is_alive(), "the call was applied while the page was on its way"
    run.join(timeout=120)
    assert world.results[-1].problems == ()
    assert ledger.written() == []
    assert statuses(world)[sold.vps_id] == "suspended"
    assert not {str(one.order_id) for one in existing} & set(ledger.counted())
    world.site.set_status(sold.order_id, "running", notify=False)
    world.run(2)
    assert statuses(world)[sold.vps_id] == "running", "a read that began after the call is believed"
