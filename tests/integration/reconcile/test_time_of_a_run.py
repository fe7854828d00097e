"""A run that cannot write all that it planned ends by itself, says so, and the next one goes on where it stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from lab.simulators.main_site.feeds import Feeds
from reconcile import run_context
from reconcile.run_context import APPLY_AT_LEAST_S, APPLY_FOR_S, RUN_FOR_S
from tests.stories.steps import converge, end_silently, sell
from tests.support.bench import Bench, bench
from tests.support.databases import Database
from tests.support.stand_ins.listed_cluster import ListedCluster
from tests.support.waiting import PATIENCE_S
from worker.tasks import RUN_LIMIT_S

LOST, STUCK = 6, 4
"""Orders whose creates never arrived, and which of them, counted in the plan's order, the main site does not answer
for."""


@pytest.fixture
def world(database: Database, engine: Any) -> Iterator[Bench]:
    with bench(database, engine) as made:
        yield made


def lose_creates(world: Bench) -> list[int]:
    """Orders that are paid and running, of which no call ever came."""
    placed = [world.site.place_order(user_id=1, name=f"lost-{n}", notify=False) for n in range(LOST)]
    for order in placed:
        world.site.set_status(order.id, "running", notify=False)
    return sorted((order.id for order in placed), key=str)


def task_requests(world: Bench) -> list[tuple[str, str]]:
    with world.engine.connect() as connection:
        return [
            tuple(row)
            for row in connection.execute(text("SELECT task, subject FROM task_requests WHERE task LIKE 'r%'"))
        ]


def test_a_run_whose_confirmations_do_not_come_reports_and_the_next_goes_on(
    world: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing = sell(world, "existing")
    converge(world, existing)
    orders = lose_creates(world)
    answered, real = threading.Event(), Feeds.single_order

    def single_order(self: Feeds, order_id: int) -> Any:
        if order_id == orders[STUCK - 1]:
            answered.wait()
        return real(self, order_id)

    monkeypatch.setattr(Feeds, "single_order", single_order)
    monkeypatch.setattr(run_context, "APPLY_FOR_S", 4.0)
    monkeypatch.setattr(run_context, "APPLY_AT_LEAST_S", 4.0)
    try:
        result = world.run()
    finally:
        answered.set()
    assert result.outcome is not None
    made, left = len(result.outcome.written), len(result.outcome.postponed)
    assert made < STUCK, "nothing behind the one that does not come is written before it"
    assert made + left == LOST, "and everything is accounted for"
    assert result.counts["postponed"] == left
    assert f"{made} of {LOST} written, {left} left to the next run" in result.summary
    states = world._rows("SELECT state, counts -> 'postponed' AS postponed FROM runs ORDER BY id DESC LIMIT 1")
    assert states == [{"state": "done", "postponed": left}]
    assert task_requests(world) == ([("reconcile.run", "goes on")] if made else [])

    before = len(world.repairs())
    monkeypatch.setattr(run_context, "APPLY_FOR_S", PATIENCE_S)
    monkeypatch.setattr(run_context, "APPLY_AT_LEAST_S", PATIENCE_S)
    after = world.run()
    assert after.outcome is not None
    assert len(after.outcome.written) == left, "the next run does what was left, and only that"
    assert len(world.repairs()) - before == left
    assert {row["name"] for row in world.vps()} == {"existing", *(f"lost-{n}" for n in range(LOST))}
    assert "next run" not in after.summary


def test_what_the_time_did_not_reach_keeps_its_finding(world: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding is over when a run looked and did not find it again; a run that had no time did not look."""
    sold = [sell(world, "ends"), sell(world, "stays")]
    converge(world, *sold)
    end_silently(world, sold[0])
    monkeypatch.setattr("sources.proxmox.cluster.ClusterSource.confirm", ListedCluster(unclear=True).confirm)
    world.run(times=4)
    assert ("not-confirmed", f"vps:{sold[0].vps_id}") in world.findings()
    monkeypatch.setattr(run_context, "APPLY_FOR_S", -1.0)
    monkeypatch.setattr(run_context, "APPLY_AT_LEAST_S", -1.0)
    assert world.run().counts["postponed"] == 1
    assert ("not-confirmed", f"vps:{sold[0].vps_id}") in world.findings()


def test_the_parts_of_a_run_end_before_its_task_does() -> None:
    assert APPLY_AT_LEAST_S <= APPLY_FOR_S < RUN_FOR_S
    assert RUN_FOR_S < RUN_LIMIT_S, "what is left of it is for the report"
