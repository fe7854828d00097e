"""The fast lane beside a full run: a slow feed delays no power state, and no two runs write at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, cast

import pytest
from sqlalchemy import Engine, text

from domain.source_protocols import OrderFeed
from panel.operators.pauses import ALL, pause
from panel.runs.lease import hold_turn, take_lease
from reconcile import run as reconcile_run
from reconcile import run_context
from reconcile.observation import fingerprints
from reconcile.run import run_fast, run_full
from tests.stories.steps import record, sell_converged
from tests.support.bench import Bench, bench
from tests.support.databases import Database
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture
def world(database: Database, engine: Engine) -> Iterator[Bench]:
    with bench(database, engine) as made:
        yield made


@dataclass(slots=True)
class HeldFeed:
    """A feed that is asked and does not answer before it is let."""

    feed: OrderFeed
    asked: threading.Event = field(default_factory=threading.Event)
    let: threading.Event = field(default_factory=threading.Event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.feed, name)

    def orders(self, **asked_for: Any) -> Any:
        self.asked.set()
        assert self.let.wait(PATIENCE_S)
        return self.feed.orders(**asked_for)


@pytest.fixture
def held(world: Bench) -> HeldFeed:
    feed = world.reconciler().feed
    assert feed is not None
    return HeldFeed(feed)


@pytest.fixture
def beside(world: Bench, held: HeldFeed) -> Iterator[Any]:
    """A full run that waits for its feed, in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        try:
            feed = cast("OrderFeed", held)
            yield lambda: pool.submit(run_full, replace(world.reconciler(), feed=feed), trigger="test")
        finally:
            held.let.set()


def test_power_is_repaired_while_a_full_run_waits_for_the_feed(world: Bench, held: HeldFeed, beside: Any) -> None:
    sold = sell_converged(world)
    world.site.set_status(sold.order_id, "stopped", notify=False)
    world.fast()
    full = beside()
    assert held.asked.wait(PATIENCE_S)

    world.fast()
    assert record(world, sold.vps_id)["status"] == "stopped"
    world.pve.set_status(sold.vmid, "running")
    world.site.change_order(sold.order_id, cpu=8)
    world.fast()
    assert record(world, sold.vps_id)["status"] == "running"

    held.let.set()
    assert full.result(PATIENCE_S).state == "done"
    assert record(world, sold.vps_id)["cpu"] == 8, "and the full run goes on with its own"
    epochs = [row["epoch"] for row in world.repairs()]
    assert epochs == sorted(epochs)


def test_a_second_full_run_is_told_of_the_first_though_that_has_no_lease_yet(
    world: Bench, held: HeldFeed, beside: Any
) -> None:
    full = beside()
    assert held.asked.wait(PATIENCE_S)
    second = run_full(world.reconciler(), trigger="test")
    assert (second.state, second.run_id) == ("busy", None)
    assert second.summary.startswith("another run is under way: ")
    held.let.set()
    assert full.result(PATIENCE_S).state == "done"


def test_the_fast_lane_waits_for_the_lease_and_goes_on_at_once(
    world: Bench, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_context, "take_lease", partial(take_lease, wait_s=PATIENCE_S))
    with ThreadPoolExecutor(1) as pool:
        with hold_turn(engine, "full", "here:1") as session:
            assert session is not None
            assert take_lease(session, "here:1") is not None
            fast = pool.submit(run_fast, world.reconciler(), trigger="test")
            waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            wait_until(lambda: world._rows(waiting), "the fast run to wait for the lease")
            assert not fast.done()
            with hold_turn(engine, "fast", "here:2") as another:
                assert another is None, "one that waits is enough"
        assert fast.result(PATIENCE_S).state == "done"


def test_a_turn_ends_before_its_session(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy server notices a closed connection late: the next run asks before that, and need not be turned away."""
    held = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with engine.connect() as other:
        with hold_turn(engine, "full", "here:1") as first:
            assert first is not None
            assert take_lease(first, "here:1") is not None
            monkeypatch.setattr(first, "invalidate", lambda: None)
            assert other.scalar(held) == 2
        assert other.scalar(held) == 0


def test_a_lease_that_is_kept_for_long_is_not_waited_for(engine: Engine) -> None:
    with hold_turn(engine, "full", "here:1") as first, hold_turn(engine, "fast", "here:2") as second:
        assert first is not None
        assert second is not None
        lease = take_lease(first, "here:1")
        assert lease is not None
        assert take_lease(second, "here:2", wait_s=0.1) is None
        first.invalidate()
        again = take_lease(second, "here:2", wait_s=PATIENCE_S)
        assert again is not None
        assert again.epoch == lease.epoch + 1


def test_a_full_run_does_the_fast_lanes_work_first(world: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sold = sell_converged(world)
    world.pve.set_status(sold.vmid, "stopped")
    world.fast()
    seen = []

    def look(*_: Any) -> int:
        seen.append(record(world, sold.vps_id)["status"])
        return 0

    monkeypatch.setattr(reconcile_run, "read_fingerprints", look)
    world.run()
    assert seen == ["stopped"]


def test_a_pause_that_is_made_while_the_feed_is_read_counts(world: Bench, held: HeldFeed, beside: Any) -> None:
    sold = sell_converged(world)
    world.site.change_order(sold.order_id, cpu=8)
    full = beside()
    assert held.asked.wait(PATIENCE_S)
    with world.engine.begin() as connection:
        pause(connection, ALL, "maintenance", timedelta(hours=1), "test")
    held.let.set()
    assert full.result(PATIENCE_S).state == "paused"
    assert record(world, sold.vps_id)["cpu"] == 2


def test_what_a_new_panel_must_catch_up_on_is_read_before_the_lease(
    world: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "PER_RUN", 1)
    for number in range(4):
        world.pve.add_guest(500 + number, name=f"by-hand-{number}")
    world.run()
    unread = "SELECT vmid FROM guests WHERE fingerprint_state = 'unread' ORDER BY vmid"
    assert len(world._rows(unread)) == 3, "this run's lists were the first to show them"
    pauses = list[float]()
    monkeypatch.setattr("reconcile.observation.fingerprints.time.sleep", pauses.append)
    world.run()
    assert world._rows(unread) == []
    assert pauses == [fingerprints.AHEAD_PAUSE_S] * 2, "slowly"


def test_a_configuration_read_ahead_does_not_count_for_a_guest_that_changed_meanwhile(
    world: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "PER_RUN", 0)
    world.pve.add_guest(500, name="by-hand")
    reconciler = replace(world.reconciler(), feed=None)
    world.fast()
    (source,) = reconciler.sources
    real = source.config

    class Changing:
        """Between the question and its answer being kept, another list comes in."""

        cluster = source.cluster

        def config(self, *asked: Any) -> Any:
            answer = real(*asked)
            world.pve.change_guest(500, cores=16)
            world.fast()
            return answer

    with world.engine.connect() as connection:
        assert fingerprints.read_ahead(connection, [Changing()]).kept == 0  # type: ignore[list-item]
    assert world._rows("SELECT fingerprint_state FROM guests WHERE vmid = 500") == [{"fingerprint_state": "unread"}]
