"""A source that lost much at once: the operator's word is for what was missing then, and for no more."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from domain.guests import GuestType, PowerState
from domain.repair_policy.budget import Budget
from domain.source_protocols import ClusterReading, Gone, GuestConfig, Lookup
from panel.operator_error import OperatorError
from panel.runs.source_states import acknowledge_source, source_state
from reconcile import run as running
from reconcile.observation import cluster_lists, fingerprints
from reconcile.observation.parallel_reads import ReadDeadline
from reconcile.run import Reconciler, run_fast, run_full
from tests.integration.reconcile.observation.test_nodes_away import column, reconciler
from tests.support.bench import QUICK
from tests.support.stand_ins.listed_cluster import ListedCluster, make_record

SOURCE = "proxmox:main"
GUESTS = range(100, 200)
TEN, OTHER_TEN = range(100, 110), range(150, 160)


@dataclass(slots=True)
class HidingCluster(ListedCluster):
    """Lists that leave guests out which are there when they are asked for by themselves. ``really``: they are gone.
    ``hangs``: a look-up is answered only when it is set. ``looked_up``: the VMIDs that were asked for singly."""

    hidden: frozenset[int] = field(default=frozenset())
    really: bool = False
    hangs: threading.Event | None = None
    looked_up: list[int] = field(default_factory=list)

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        self.looked_up.append(vmid)
        if self.hangs is not None:
            self.hangs.wait()
        return Gone("no node has it") if self.really else ListedCluster.confirm(self, node, guest_type, vmid)

    def read(self) -> ClusterReading:
        there = self.guests
        self.guests = {vmid: guest for vmid, guest in there.items() if vmid not in self.hidden}
        try:
            return ListedCluster.read(self)
        finally:
            self.guests = there


@pytest.fixture
def cluster(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> HidingCluster:
    """A hundred guests that were listed once, of which ten are missing since."""
    monkeypatch.setattr(fingerprints, "AHEAD_FOR_S", 0)
    monkeypatch.setattr(fingerprints, "RUN_FOR_S", 0)
    cluster = HidingCluster()
    for vmid in GUESTS:
        cluster.add(vmid, "pve1")
    run(engine, cluster)
    hide(cluster, TEN)
    run(engine, cluster)
    assert "10 of 100" in (degraded(engine) or "")
    return cluster


def run(engine: Engine, cluster: ListedCluster, times: int = 1) -> None:
    reconciler = Reconciler(
        engine=engine,
        feed=None,
        sources=(cluster,),
        policy=QUICK,
        budget=Budget(),
        shared_ids=True,
        sweep_interval=timedelta(0),
        users_interval=timedelta(0),
        first_run_asks=False,
    )
    for _ in range(times):
        assert run_full(reconciler, trigger="test").state == "done"


def hide(cluster: HidingCluster, vmids: Iterable[int]) -> None:
    cluster.hidden = frozenset(vmids)


def acknowledge(engine: Engine) -> str:
    with engine.begin() as connection:
        return acknowledge_source(connection, SOURCE)


def degraded(engine: Engine) -> str | None:
    """The sentence why the source is not believed."""
    with engine.connect() as connection:
        reason: str | None = source_state(connection, SOURCE)["degraded_reason"]
        return reason


def absent(engine: Engine) -> set[int]:
    """The VMIDs that count as absent."""
    with engine.connect() as connection:
        return {int(s.split("/")[1]) for s in connection.scalars(text("SELECT subject FROM absences"))}


def test_what_was_acknowledged_counts_from_then_on(engine: Engine, cluster: HidingCluster) -> None:
    assert absent(engine) == set()
    assert acknowledge(engine) == degraded(engine)
    run(engine, cluster, 2)
    assert (absent(engine), degraded(engine)) == (set(TEN), None)


@pytest.mark.parametrize(
    ("then", "why"),
    [
        pytest.param(GUESTS, "100 of 100", id="everything"),
        pytest.param([*TEN, *OTHER_TEN], "20 of 100", id="as many again"),
        pytest.param(OTHER_TEN, "10 of 100", id="as many others"),
    ],
)
def test_an_acknowledgement_is_for_what_was_missing_then(
    engine: Engine, cluster: HidingCluster, then: Iterable[int], why: str
) -> None:
    acknowledge(engine)
    hide(cluster, then)
    run(engine, cluster, 3)
    assert absent(engine) == set()
    assert why in (degraded(engine) or "")


def test_one_more_is_what_vanishes_by_itself(engine: Engine, cluster: HidingCluster) -> None:
    acknowledge(engine)
    hide(cluster, [*TEN, 199])
    run(engine, cluster)
    assert absent(engine) == {*TEN, 199}


def test_everything_is_never_lost_by_itself(engine: Engine, cluster: HidingCluster) -> None:
    hide(cluster, [vmid for vmid in GUESTS if vmid != 199])
    run(engine, cluster)
    acknowledge(engine)
    hide(cluster, GUESTS)
    run(engine, cluster)
    assert absent(engine) == set()
    assert "100 of 100" in (degraded(engine) or "")


def test_the_sentence_follows_what_is_missing(engine: Engine, cluster: HidingCluster) -> None:
    hide(cluster, [*TEN, *OTHER_TEN])
    run(engine, cluster)
    assert "20 of 100" in acknowledge(engine)
    run(engine, cluster)
    assert absent(engine) == {*TEN, *OTHER_TEN}


def test_they_are_back_and_nothing_is_left_to_acknowledge(engine: Engine, cluster: HidingCluster) -> None:
    hide(cluster, ())
    run(engine, cluster)
    assert degraded(engine) is None
    with pytest.raises(OperatorError, match="is not degraded"):
        acknowledge(engine)


def test_what_was_acknowledged_is_not_asked_for(engine: Engine, cluster: HidingCluster) -> None:
    acknowledge(engine)
    cluster.looked_up.clear()
    run(engine, cluster)
    assert (absent(engine), cluster.looked_up) == (set(TEN), [])


def test_each_that_is_gone_by_itself_is_believed_without_a_word(engine: Engine, cluster: HidingCluster) -> None:
    cluster.really = True
    cluster.looked_up.clear()
    run(engine, cluster)
    assert (absent(engine), degraded(engine)) == (set(TEN), None)
    assert sorted(cluster.looked_up) == list(TEN)


def test_look_ups_that_hang_prove_nothing_and_keep_no_lane_waiting(
    engine: Engine, cluster: HidingCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are within the time of reading the lists: what was not answered by then is missing and unproven."""
    monkeypatch.setattr(fingerprints, "RUN_FOR_S", 15.0)
    fast, full = ReadDeadline("fast", 4.0), ReadDeadline("full", 4.0)
    for module in (running, cluster_lists):
        monkeypatch.setattr(module, "FAST", fast)
        monkeypatch.setattr(module, "FULL", full)
    cluster.really, cluster.hangs = True, threading.Event()
    well = ListedCluster("well")
    well.add(100, "pve1")
    make_record(engine, 1, 100, "pve1", "well")
    try:
        for _ in range(2):
            assert run_full(reconciler(engine, cluster, well), trigger="test").state == "done"
        assert column(engine, "link_state", 1) == "verified"
        well.change(100, status="stopped", power=PowerState.STOPPED)
        for _ in range(2):
            cluster.looked_up.clear()
            assert run_fast(reconciler(engine, cluster, well), trigger="test").state == "done"
            assert len(cluster.looked_up) <= 1, "who gave no answer in time is asked nothing more"
    finally:
        cluster.hangs.set()
    assert column(engine, "power_state", 1) == "stopped"
    assert absent(engine) == set()
    assert "10 of 100" in (degraded(engine) or "")
