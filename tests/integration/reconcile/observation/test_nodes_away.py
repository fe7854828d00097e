"""A node that does not answer costs the guests of other nodes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from domain.guests import PowerState
from domain.repair_policy.budget import Budget
from reconcile.observation import fingerprints
from reconcile.run import Reconciler, run_fast, run_full
from tests.support.bench import QUICK
from tests.support.stand_ins.listed_cluster import ListedCluster, make_record

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


def test_a_second_look_is_one_of_another_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = crowded(engine)
    runs(engine, cluster, 3)
    cluster.fingerprints[900] = "smbios:another"
    for vmid in (100, 900):
        cluster.change(vmid, name=f"renamed-{vmid}")
    monkeypatch.setattr(fingerprints, "DOUBTED_PER_RUN", 0)  # by the run that saw the change
    run_fast(reconciler(engine, cluster), trigger="test")
    monkeypatch.setattr(fingerprints, "PER_RUN", 1)
    cluster.asked.clear()
    run_full(reconciler(engine, cluster), trigger="test")
    assert sorted(cluster.asked) == [("pve1", 900), ("pve2", 100)], "read ahead, and not again with the run's own lists"
    run_full(reconciler(engine, cluster), trigger="test")
    assert cluster.asked[2:] == [("pve1", 900)]


def test_a_node_that_left_the_cluster_proves_nothing_and_is_told(engine: Engine) -> None:
    cluster = ListedCluster()
    cluster.add(100, "pve2")
    for vmid in (200, 201):
        cluster.add(vmid, "pve1")
    make_record(engine, 1, 100, "pve2")
    make_sold(engine, 1, "order-1")
    runs(engine, cluster, 2)
    assert column(engine, "link_state", 1) == "verified"
    assert findings(engine, 1) == set()
    cluster.nodes = {"pve1", "pve3"}
    del cluster.guests[100]
    runs(engine, cluster, 4)
    assert findings(engine, 1) == {("guest-unseen", "alarm")}
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM absences")) == 0, "it may go on running beside the cluster"
    cluster.nodes.add("pve2")
    cluster.add(100, "pve2")
    runs(engine, cluster, 1)
    assert findings(engine, 1) == set()
    assert column(engine, "deleted_at", 1) is None


def test_a_guest_whose_absence_is_being_counted_is_not_unseen(engine: Engine) -> None:
    cluster = ListedCluster()
    for vmid in (100, 200, 201):
        cluster.add(vmid, "pve1")
    make_record(engine, 1, 100, "pve1")
    make_sold(engine, 1, "order-1")
    runs(engine, cluster, 2)
    del cluster.guests[100]
    run_full(reconciler(engine, cluster), trigger="test")
    assert findings(engine, 1) == set()
    runs(engine, cluster, 2)
    assert ("paid-but-missing", "alarm") in findings(engine, 1)
    assert "guest-unseen" not in {class_ for class_, _ in findings(engine, 1)}


def test_a_guest_that_left_its_pool_is_told(engine: Engine) -> None:
    cluster = ListedCluster(whole=False)
    for vmid in (100, 200, 201):
        cluster.add(vmid, "pve1")
    make_record(engine, 1, 100, "pve1")
    make_sold(engine, 1, "order-1")
    runs(engine, cluster, 2)
    del cluster.guests[100]
    runs(engine, cluster, 4)
    assert findings(engine, 1) == {("guest-unseen", "alarm")}


def make_sold(engine: Engine, vps_id: int, order_id: str) -> None:
    """An active order of the record's customer, as an earlier sweep showed it."""
    with engine.begin() as connection:
        now = connection.scalar(text("SELECT clock_timestamp()"))
        connection.execute(text("UPDATE vps SET order_id = :order WHERE id = :id"), {"order": order_id, "id": vps_id})
        connection.execute(text(SOLD), {"order": order_id, "id": vps_id, "now": now})


def findings(engine: Engine, vps_id: int) -> set[tuple[str, str]]:
    said = text("SELECT class, severity FROM findings WHERE resolved_at IS NULL AND vps_id = :id")
    with engine.connect() as connection:
        return {(row[0], row[1]) for row in connection.execute(said, {"id": vps_id})}


SOLD = """
INSERT INTO orders_seen (order_id, state, status, state_since, owner, owner_since, panel_vps_id, panel_vps_id_given,
  first_seen_at, changed_at, effective_at)
VALUES (:order, 'active', 'active', :now, '5', :now, :id, true, :now, :now, :now)
"""
