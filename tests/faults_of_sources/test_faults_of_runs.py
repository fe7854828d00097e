"""Runs that overlap or lose their lease, clocks that differ, a VMID whose list shows the guest before.

Every case is a row of docs/faults.md.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import text

from domain.source_protocols import ClusterReading, GuestSource
from lab.simulators.main_site.faults import FeedFaultKind
from reconcile.run import Reconciler, RunResult, run_full
from tests.faults_of_sources.conftest import MakeBench
from tests.faults_of_sources.ledger import Ledger, Write
from tests.stories.steps import Sold, converge, record, sell, statuses
from tests.support.bench import Bench

STATUS = "missed-status"


@pytest.fixture(scope="module")
def world(make_bench: MakeBench) -> Bench:
    return make_bench(extended=True)


@pytest.fixture(scope="module")
def existing(world: Bench) -> list[Sold]:
    made = [sell(world, f"existing-{n}") for n in range(4)]
    converge(world, *made)
    return made


class HeldUp:
    """A cluster whose read waits for the word to go on; everything else is asked as ever."""

    def __init__(self, source: GuestSource) -> None:
        self._source = source
        self.cluster = source.cluster
        self.config, self.confirm, self.health = source.config, source.confirm, source.health
        self.asked, self.go_on = threading.Event(), threading.Event()

    def read(self) -> ClusterReading:
        """Read, then wait."""
        reading = self._source.read()
        self.asked.set()
        assert self.go_on.wait(120)
        return reading


@contextmanager
def run_under_way(world: Bench) -> Iterator[tuple[HeldUp, list[RunResult | Exception]]]:
    """A full run that has read the cluster and writes nothing before it may go on; then its end is waited for."""
    reconciler = world.reconciler()
    held_up, ended = HeldUp(reconciler.sources[0]), list[RunResult | Exception]()

    def work(reconciler: Reconciler) -> None:
        try:
            ended.append(run_full(reconciler, trigger="test"))
        except Exception as error:  # noqa: BLE001 - what it ends with is what the test is about
            ended.append(error)

    world.clock.tick()
    thread = threading.Thread(target=work, args=(replace(reconciler, sources=(held_up,)),))
    thread.start()
    try:
        assert held_up.asked.wait(120)
        yield held_up, ended
    finally:
        held_up.go_on.set()
        thread.join(120)


def runs(world: Bench, *, after: int) -> list[dict[str, Any]]:
    return world._rows(f"SELECT id, epoch, state FROM runs WHERE id > {after} ORDER BY id")


def last_run(world: Bench) -> int:
    return int(world._rows("SELECT coalesce(max(id), 0) AS id FROM runs")[0]["id"])


def test_two_reconcilers_at_once(world: Bench, existing: list[Sold]) -> None:
    """The second finds the lease taken: it asks nobody and writes nothing, and the first ends its work."""
    ledger, before = Ledger.open(world), last_run(world)
    world.site.set_status(existing[0].order_id, "suspended", notify=False)
    with run_under_way(world) as (_, ended):
        asked = ledger.asked("main")
        second = run_full(world.reconciler(), trigger="test")
        assert (second.state, second.run_id) == ("busy", None)
        assert ledger.asked("main") == asked, "not even a question"
        assert ledger.journal() == []
    (first,) = ended
    assert isinstance(first, RunResult)
    assert [row["state"] for row in runs(world, after=before)] == ["done"], "there was one run, not two"
    assert ledger.written() == [Write(existing[0].vps_id, "update", "running -> suspended", STATUS)]
    _resume(world, existing)


def test_a_reconciler_that_lost_its_lease(world: Bench, existing: list[Sold]) -> None:
    """Its connection is cut in mid run and another takes over: what it still means to write is not written."""
    ledger, before = Ledger.open(world), last_run(world)
    world.site.set_status(existing[0].order_id, "suspended", notify=False)
    with run_under_way(world) as (_, ended):
        cut = "SELECT pg_terminate_backend(pid) FROM (SELECT DISTINCT pid FROM pg_locks l JOIN pg_database d"
        with world.engine.connect() as connection:
            mine = (
                " ON d.oid = l.database WHERE locktype = 'advisory' AND granted AND datname = current_database()) mine"
            )
            assert connection.execute(text(cut + mine)).scalars().all() == [True], "turn and lease are one session's"
        world.run()
        written = ledger.written()
    (first,) = ended
    assert isinstance(first, Exception) or (first.outcome is not None and first.outcome.fenced)
    old, new = runs(world, after=before)
    assert (old["state"], new["state"]) == ("abandoned", "done") or old["state"] == "failed"
    assert new["epoch"] > old["epoch"]
    assert written == [Write(existing[0].vps_id, "update", "running -> suspended", STATUS)]
    assert ledger.written() == written, "nothing of the older epoch came after"
    assert {row["epoch"] for row in ledger.journal()} == {new["epoch"]}
    _resume(world, existing)


@dataclass(frozen=True, slots=True)
class Fault:
    """``skew_s``: the main site's clock against everybody else's."""

    name: str
    skew_s: float


SKEWS = (Fault("main site two hours ahead", 7200.0), Fault("main site two hours behind", -7200.0))


@pytest.mark.parametrize("fault", SKEWS, ids=lambda f: f.name)
def test_clock_skew(world: Bench, existing: list[Sold], fault: Fault) -> None:
    """A fresh read is believed and a stale one is not, however the clock stands."""
    ledger = Ledger.open(world)
    world.site.skew_clock(fault.skew_s)
    world.site.set_status(existing[0].order_id, "suspended", notify=False)
    world.run()
    suspended = Write(existing[0].vps_id, "update", "running -> suspended", STATUS)
    assert ledger.written() == [suspended]
    world.run()
    halted = Write(existing[0].vps_id, "update", "changed power_state", STATUS)
    assert ledger.written() == sorted([suspended, halted])

    world.call("update", id=existing[1].vps_id, status="suspended")
    world.drain()
    world.site.fault_feed(FeedFaultKind.AS_OF_LAG, value=60.0)
    world.run(2)
    assert statuses(world)[existing[1].vps_id] == "suspended", "a word from before the call"
    assert ledger.written() == sorted([suspended, halted])
    assert ledger.counted() == {}
    world.site.clear_faults()
    _resume(world, existing)


def test_stale_status_after_vmid_reuse(world: Bench, existing: list[Sold]) -> None:
    """Proxmox shows the machine before, name and state and size, while the next customer's stands at its VMID."""
    victim = sell(world, "before")
    converge(world, victim)
    ledger = Ledger.open(world)
    fingerprint = record(world, victim.vps_id)["fingerprint"]
    world.site.cancel_order(victim.order_id, notify=False)
    after = world.site.place_order(user_id=2, name="after", create_guest=False, notify=False)
    world.pve.add_guest(victim.vmid, name="after", status="stopped", reported_after_s=300)
    world.site.change_order(after.id, cluster="main", node="pve1", vmid=victim.vmid)
    world.site.set_status(after.id, "stopped", notify=False)
    world.run(4)

    ended = Write(victim.vps_id, "update", "changed order_state", STATUS)
    assert ledger.written() == [ended], "who stands there is in question: no link, no power, no record, no delete"
    assert set(ledger.changed()) == {victim.vps_id}
    assert ledger.counted() == {}
    assert ("ambiguous", f"order:{after.id}") in world.findings()
    assert [row["name"] for row in world.client_sees(6)] == []

    world.pve.clear_faults()  # its node reports
    world.run(4)
    (made,) = [row for row in world.vps() if row["order_id"] == str(after.id)]
    assert (made["user_id"], made["name"], made["status"], made["vmid"]) == (6, "after", "stopped", victim.vmid)
    assert made["fingerprint"] not in (None, fingerprint)
    told = [(row["vps_id"], row["action"], row["result"]) for row in ledger.journal()]
    assert (made["id"], "create", "created stopped") in told, "and never running, which the machine before was"
    assert (victim.vps_id, "delete", "deleted") in told
    assert record(world, victim.vps_id)["user_id"] == 5, "the old record went to nobody"
    assert world.findings() == set()
    assert {one.vps_id for one in existing} & set(ledger.changed()) == set()
    world.site.cancel_order(after.id)
    world.drain()


def _resume(world: Bench, existing: list[Sold]) -> None:
    for one in existing:
        world.site.set_status(one.order_id, "running", notify=False)
    world.run(2)
    assert set(statuses(world).values()) == {"running"}
