"""Story 24: whatever the order feed says while it is not well, nothing is deleted; what it did show may heal.

One panel for all cases. In each, one order and its guest are really gone (an orphan, were the feed believed), one
order that the first page shows is suspended, and a machine changes its power.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from panel.sessions import sync_engine
from simulators.main_site.faults import FeedFaultKind
from tests.stories.steps import Sold, last_repair, record, repairs_since, sell, settle, statuses
from tests.support.bench import Bench, bench
from tests.support.databases import Databases

pytestmark = pytest.mark.xdist_group("story_24")

RUNS = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """``page``: which page is spoilt. ``heals``: whether the first order is still shown. ``told``: in a problem."""

    kind: FeedFaultKind
    told: str
    page: int | None = None
    value: float | None = None
    heals: bool = True


FAULTS = (
    Fault(FeedFaultKind.CUT_BODY, "page 2 of orders", page=2),
    Fault(FeedFaultKind.TOTAL_CHANGES, "total", page=2),
    Fault(FeedFaultKind.REPEAT_ID, "repeated or out of order", page=2),
    Fault(FeedFaultKind.EMPTY_PAGE, "is empty but has a next_cursor", page=2),
    Fault(FeedFaultKind.STATUS, "answered 500", page=2, value=500),
    Fault(FeedFaultKind.EMPTY, "vanished at once", heals=False),
    Fault(FeedFaultKind.HTML, "not JSON", heals=False),
    Fault(FeedFaultKind.STATUS, "answered 500", value=500, heals=False),
    Fault(FeedFaultKind.UNAUTHORIZED, "MAIN_SITE_API_KEY is refused", heals=False),
    Fault(FeedFaultKind.SHRINK, "vanished at once", value=0.1),
    Fault(FeedFaultKind.NO_AS_OF, "as_of", heals=False),
)


@pytest.fixture(scope="module")
def world(databases: Databases) -> Iterator[Bench]:
    database = databases.clone()
    engine = sync_engine(database.app_url, "panel-sync test", pool_size=4)
    with bench(database, engine) as made:
        made.page_limit = 3
        yield made
    engine.dispose()
    databases.drop(database)


@pytest.fixture(scope="module")
def standing(world: Bench) -> list[Sold]:
    """Seven machines that outlive all cases: three pages with the victim."""
    made = [sell(world, f"standing-{n}", user_id=1 + n % 2) for n in range(7)]
    settle(world, *made)
    return made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.kind.value} on page {f.page or 'any'}")
def test_story_24_feed_ill(world: Bench, standing: list[Sold], fault: Fault) -> None:
    victim = sell(world, "victim")
    settle(world, victim)
    before, last = statuses(world), last_repair(world)
    world.site.remove_order(victim.order_id)
    world.pve.remove_guest(victim.vmid)
    world.site.set_status(standing[0].order_id, "suspended", notify=False)
    world.pve.set_status(standing[1].vmid, "stopped")
    world.site.fault_feed(fault.kind, page=fault.page, value=fault.value, path="/orders")

    problems: set[str] = set()
    for _ in range(RUNS):
        problems |= set(world.run().problems)

    expected = before | {standing[1].vps_id: "stopped"}
    # Its guest stopped with the suspension: that, Proxmox shows.
    expected[standing[0].vps_id] = "suspended" if fault.heals else "stopped"
    assert statuses(world) == expected
    assert [r["action"] for r in repairs_since(world, last) if r["action"] != "update"] == []
    assert record(world, victim.vps_id)["deleted_at"] is None
    assert record(world, victim.vps_id)["missing_since"] is None, "not called missing on an old word of the feed"
    assert any(fault.told in problem for problem in problems), problems

    _recover(world, standing, victim)


def _recover(world: Bench, standing: list[Sold], victim: Sold) -> None:
    """Well again: the feed is believed, and the orphan goes after a proof of its own."""
    world.site.clear_faults()
    world.site.set_status(standing[0].order_id, "running", notify=False)
    world.pve.set_status(standing[1].vmid, "running")
    world.run(2)
    assert record(world, victim.vps_id)["deleted_at"] is None, "what was missed under the fault counts for nothing"
    world.run(2)
    assert record(world, victim.vps_id)["deleted_at"] is not None
    assert statuses(world) == {one.vps_id: "running" for one in standing}
    assert world.findings() == set()
