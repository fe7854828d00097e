"""Findings resolve by themselves where a run looked, whatever is amiss elsewhere."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from panel.journal import rows
from panel.observations import components
from panel.operators import pauses
from reconcile import run
from reconcile.observation import cluster_lists
from reconcile.observation.parallel_reads import ReadDeadline
from reconcile.run import run_full
from tests.integration.reconcile.observation.test_nodes_away import reconciler
from tests.support.stand_ins.listed_cluster import ListedCluster

OLD_NEWS = "vps:77"


def cluster(name: str = "main", **values: object) -> ListedCluster:
    made = ListedCluster(name, **values)  # type: ignore[arg-type]
    for vmid, node in ((100, "pve1"), (101, "pve2"), (102, "pve3")):
        made.add(vmid, node)
    return made


def old_news(engine: Engine, of: str | None, vmid: int | None = None) -> None:
    """An alarm that nothing bears out any more."""
    with engine.begin() as connection:
        rows.raise_finding(
            connection, "paid-but-missing", OLD_NEWS, "old news", severity="alarm", cluster=of, vmid=vmid
        )


def is_open(engine: Engine) -> bool:
    with engine.connect() as connection:
        statement = text("SELECT count(*) FROM findings WHERE subject = :subject AND resolved_at IS NULL")
        return bool(connection.scalar(statement, {"subject": OLD_NEWS}))


def full(engine: Engine, *clusters: ListedCluster, times: int = 1) -> None:
    for _ in range(times):
        assert run_full(reconciler(engine, *clusters), trigger="test").state == "done"


def test_a_warning_keeps_nothing_open_and_is_told(engine: Engine) -> None:
    warned = cluster(warnings=("Proxmox VE 9.0.5 answers large lists in tens of seconds",))
    old_news(engine, None)
    result = run_full(reconciler(engine, warned), trigger="test")
    assert result.problems == ("main: Proxmox VE 9.0.5 answers large lists in tens of seconds",)
    assert not is_open(engine)


def test_a_token_of_pools_keeps_nothing_open(engine: Engine) -> None:
    old_news(engine, "main", 100)
    full(engine, cluster(whole=False))
    assert not is_open(engine)


@pytest.mark.parametrize(
    ("of", "vmid", "stays"),
    [
        pytest.param("second", 100, False, id="another cluster's"),
        pytest.param("main", 100, False, id="another node's"),
        pytest.param("main", 102, True, id="of a guest on that node"),
        pytest.param(None, None, False, id="of no guest"),
    ],
)
def test_a_node_that_is_offline_keeps_open_what_it_hides(
    engine: Engine, of: str | None, vmid: int | None, *, stays: bool
) -> None:
    full(engine, cluster(), cluster("second"))
    old_news(engine, of, vmid)
    full(engine, cluster(offline={"pve3"}), cluster("second"))
    assert is_open(engine) is stays
    full(engine, cluster(), cluster("second"))
    assert not is_open(engine)


@pytest.mark.parametrize(("of", "stays"), [("second", False), ("hangs", True), (None, True), ("removed", False)])
def test_a_cluster_that_hangs_keeps_open_what_may_be_its_own(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, of: str | None, *, stays: bool
) -> None:
    for module in (run, cluster_lists):
        monkeypatch.setattr(module, "FULL", ReadDeadline("full", 4.0))
    let = threading.Event()
    old_news(engine, of, 100 if of else None)
    full(engine, cluster("hangs", holds_back=let), cluster("second"))
    let.set()
    assert is_open(engine) is stays


def test_a_cluster_that_lost_much_keeps_its_own_open(engine: Engine) -> None:
    shown = cluster()
    full(engine, shown, cluster("second"))
    old_news(engine, "main", 100)
    shown.guests.clear()
    shown.unclear = True
    full(engine, shown, cluster("second"))
    assert is_open(engine)


def test_a_paused_cluster_keeps_its_own_open_and_no_others(engine: Engine) -> None:
    with engine.begin() as connection:
        pauses.pause(connection, f"{pauses.CLUSTER}main", "maintenance", timedelta(hours=1), "test")
    old_news(engine, "main", 100)
    full(engine, cluster(), cluster("second"))
    assert is_open(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE findings SET cluster = 'second' WHERE subject = :s"), {"s": OLD_NEWS})
    full(engine, cluster(), cluster("second"))
    assert not is_open(engine)


def test_lasting_suspects_beyond_what_a_run_loads_keep_nothing_else_open(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "BUDGET", 8)
    many = cluster()
    for vmid in range(200, 205):
        many.add(vmid, "pve1")
    old_news(engine, None)
    result = run_full(reconciler(engine, many), trigger="test")
    assert result.counts["cut"]
    assert not is_open(engine)


def test_what_a_run_did_not_draw_stays_open(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    many = cluster()
    for vmid in range(200, 205):
        many.add(vmid, "pve1")
    full(engine, many, times=2)
    unsold = text("SELECT count(*) FROM findings WHERE class = 'unmanaged-guest' AND resolved_at IS NULL")
    with engine.begin() as connection:
        for vmid in many.guests:
            rows.raise_finding(
                connection, "unmanaged-guest", f"guest:main/{vmid}", "no order", cluster="main", vmid=vmid
            )
    monkeypatch.setattr(components, "BUDGET", 8)
    full(engine, many)
    with engine.connect() as connection:
        still = connection.scalar(unsold)
    assert still is not None
    assert len(many.guests) - 2 <= still
