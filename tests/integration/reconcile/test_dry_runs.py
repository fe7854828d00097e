"""A dry run keeps nothing of what it saw: it shows what a real run would do, and brings nothing nearer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from domain.orders import OrderState
from panel.schema import tables
from panel.sessions import sync_engine
from reconcile.observation.mass_disappearance import ASKED_SINGLY
from reconcile.run import RunResult, run_full
from tests.support.databases import Databases
from tests.support.fleets.hoster import Hoster, versions

ITS_OWN = {"runs", "leases"}
"""The run's row, and who holds the lease since when."""

KEPT_FROM_IT = tuple(table.name for table in tables.metadata.sorted_tables if table.name not in ITS_OWN)


def plan(hoster: Hoster) -> RunResult:
    """One dry run."""

    def dry(reconciler: object, trigger: str) -> RunResult:
        return run_full(reconciler, trigger=trigger, dry=True)  # type: ignore[arg-type]

    return hoster._runs(dry, 1)


@pytest.fixture
def hoster(databases: Databases) -> Iterator[Hoster]:
    """Twenty machines that agree with their orders."""
    database = databases.clone()
    engine = sync_engine(database.app_url, "panel-sync test", pool_size=4)
    made = Hoster(engine)
    made.open()
    made.sell(20)
    made.full(3)
    assert made.count("vps", "deleted_at IS NULL AND link_state = 'verified'") == 20
    yield made
    engine.dispose()
    databases.drop(database)


def everything_differs(hoster: Hoster) -> None:
    """What a run observes, of every kind: gone, back, new, changed, in doubt, ended, another owner."""
    orders = list(hoster.feed.listed)
    hoster.forget(orders[0])
    hoster.full()  # an absence that is counted already
    hoster.cluster.guests.pop(hoster.vmids[orders[0]])
    hoster.end(orders[1])
    hoster.flip(orders[2])
    hoster.cluster.change(hoster.vmids[orders[3]], node="pve2", name="moved")
    hoster.cluster.fingerprints[hoster.vmids[orders[4]]] = "smbios:another"
    hoster.cluster.change(hoster.vmids[orders[4]], name="another")
    order = hoster.feed.listed[orders[5]]
    hoster.feed.listed[orders[5]] = replace(order, owner="m1", cpu=4, state=OrderState.SUSPENDED, status="suspended")
    hoster.sell(3)
    hoster.cluster.add(900, "pve1")


def test_a_dry_run_changes_no_row_but_its_own(hoster: Hoster) -> None:
    everything_differs(hoster)
    before = versions(hoster.engine, KEPT_FROM_IT)
    for _ in range(3):
        result = plan(hoster)
        assert result.plan is not None
        assert result.plan.changes
    assert versions(hoster.engine, KEPT_FROM_IT) == before
    assert hoster.count("runs", "kind = 'plan' AND state = 'done' AND plan_hash IS NOT NULL") == 3


def test_a_dry_run_does_not_note_that_a_source_lost_much(hoster: Hoster) -> None:
    hoster.sell(1 + ASKED_SINGLY - 20)
    hoster.full()
    hoster.cluster.guests.clear()
    hoster.feed.listed.clear()
    before = versions(hoster.engine, KEPT_FROM_IT)
    result = plan(hoster)
    assert any("vanished at once" in problem for problem in result.problems)
    assert versions(hoster.engine, KEPT_FROM_IT) == before


def test_a_dry_run_shows_what_the_next_run_does(hoster: Hoster) -> None:
    everything_differs(hoster)
    shown, done = plan(hoster), hoster.full()
    assert shown.plan is not None
    assert done.plan is not None
    assert [c.subject for c in shown.plan.changes] != []
    assert {(c.subject, c.kind) for c in shown.plan.changes} <= {(c.subject, c.kind) for c in done.plan.changes}


def test_ten_dry_runs_prove_nothing(hoster: Hoster) -> None:
    """Ended orders whose machines are gone: three complete reads without them delete the records."""
    gone = list(hoster.feed.listed)[:2]
    for order_id in gone:
        hoster.end(order_id)
    for _ in range(10):
        plan(hoster)
    hoster.full()
    assert hoster.count("vps", "deleted_at IS NULL") == 20
    assert hoster.count("absences", "kind = 'guest' AND consecutive = 1") == 2
    hoster.full(hoster.policy.proof_n - 1)
    assert hoster.count("vps", "deleted_at IS NULL") == 18


def test_dry_runs_in_between_hold_up_nothing(hoster: Hoster) -> None:
    order_id = next(iter(hoster.feed.listed))
    hoster.end(order_id)
    for _ in range(hoster.policy.proof_n):
        plan(hoster)
        hoster.full()
    assert hoster.count("vps", "deleted_at IS NULL") == 19
