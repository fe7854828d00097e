"""A node that does not answer costs the guests of other nodes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from reconcile import fingerprints
from reconcile.gate import Budget
from reconcile.run import Reconciler, run_fast, run_full
from reconcile.state import PowerState
from tests.support.bench import QUICK
from tests.support.listed_cluster import ListedCluster, make_record

GUESTS_OF_THE_DEAD_NODE = range(100, 125)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "AHEAD_PAUSE_S", 0)


def reconciler(engine: Engine, *clusters: ListedCluster) -> Reconciler:
    return Reconciler(
        engine=engine,
        feed=None,
        sources=clusters,
        policy=QUICK,
        budget=Budget(),
        shared_ids=True,
        sweep_interval=timedelta(0),
        users_interval=timedelta(0),
        first_run_asks=False,
    )


def runs(engine: Engine, cluster: ListedCluster, times: int) -> None:
    for _ in range(times):
        assert run_full(reconciler(engine, cluster), trigger="test").state == "done"
        assert run_fast(reconciler(engine, cluster), trigger="test").state == "done"


def column(engine: Engine, name: str, vps_id: int) -> object:
    with engine.connect() as connection:
        return connection.scalar(text(f"SELECT {name} FROM vps WHERE id = :id"), {"id": vps_id})


def crowded(engine: Engine) -> ListedCluster:
    """Twenty-five guests on one node and one, number 900 of record 90, on another."""
    cluster = ListedCluster()
    for number, vmid in enumerate(GUESTS_OF_THE_DEAD_NODE):
        cluster.add(vmid, "pve2")
        make_record(engine, 1 + number, vmid, "pve2")
    cluster.add(900, "pve1")
    make_record(engine, 90, 900, "pve1")
    return cluster


def test_a_guest_that_moves_while_a_node_is_dead_is_followed(engine: Engine) -> None:
    cluster = crowded(engine)
    runs(engine, cluster, 2)
    assert column(engine, "link_state", 90) == "verified"
    cluster.offline = {"pve2"}
    runs(engine, cluster, 1)
    cluster.change(900, node="pve3", status="stopped", power=PowerState.STOPPED)
    cluster.asked.clear()
    runs(engine, cluster, 2)
    assert (column(engine, "node", 90), column(engine, "power_state", 90)) == ("pve3", "stopped")
    assert {node for node, _ in cluster.asked} == {"pve3"}, "nobody was asked about on the dead node"


def test_a_new_panel_with_a_dead_node_looks_at_the_others(engine: Engine) -> None:
    cluster = crowded(engine)
    cluster.offline = {"pve2"}
    runs(engine, cluster, 1)
    assert column(engine, "link_state", 90) == "verified"


def test_a_node_that_is_silent_is_asked_once_a_run_and_its_guests_in_turn(engine: Engine) -> None:
    cluster = crowded(engine)
    cluster.silent = {"pve2"}
    runs(engine, cluster, 1)
    assert column(engine, "link_state", 90) == "verified"
    asked = [vmid for node, vmid in cluster.asked if node == "pve2"]
    assert len(asked) == 1
    runs(engine, cluster, 2)
    asked = [vmid for node, vmid in cluster.asked if node == "pve2"]
    assert len(asked) == len(set(asked)) > 2, "another one each time"


def test_reading_configurations_ends_when_its_time_is_over(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "RUN_FOR_S", 0)
    monkeypatch.setattr(fingerprints, "AHEAD_FOR_S", 0)
    cluster = crowded(engine)
    runs(engine, cluster, 2)
    assert cluster.asked == []


def test_guests_of_an_evacuated_node_are_looked_at_before_the_lease(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = crowded(engine)
    runs(engine, cluster, 3)
    for vmid in GUESTS_OF_THE_DEAD_NODE:
        cluster.change(vmid, node="pve3")
    run_fast(reconciler(engine, cluster), trigger="test")
    monkeypatch.setattr(fingerprints, "PER_RUN", 0)
    run_full(reconciler(engine, cluster), trigger="test")
    assert {column(engine, "node", 1 + n) for n in range(len(GUESTS_OF_THE_DEAD_NODE))} == {"pve3"}


def test_a_second_look_is_one_of_another_run(engine: Engine) -> None:
    cluster = crowded(engine)
    runs(engine, cluster, 3)
    cluster.change(900, name="renamed")
    run_fast(reconciler(engine, cluster), trigger="test")
    cluster.asked.clear()
    run_full(reconciler(engine, cluster), trigger="test")
    assert cluster.asked == [("pve1", 900)], "read ahead, and not again with the run's own lists"
