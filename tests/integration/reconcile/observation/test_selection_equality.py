"""What the database's join leaves out changes nothing: on random worlds, the filtered plan equals the unfiltered one.
Nor does what is left to a later run: what is decided within a budget is decided as ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from domain.repair_policy.budget import Budget
from domain.source_protocols import GuestSource, OrderFeed
from panel.journal.rows import database_now
from panel.runs.run_log import begin_run
from panel.sessions import sync_engine
from reconcile.decision.cases import Policy, World
from reconcile.decision.decide import plan
from reconcile.decision.failure_isolation import subjects_in
from reconcile.observation.observe import Observed
from reconcile.run import Reconciler, load_world
from tests.support.databases import Databases
from tests.support.fleets.cut_worlds import decided_as_in, identities
from tests.support.fleets.random_fleet import CLUSTERS, CUSTOMERS, NoFeed, NoSource, Rows, scratch
from tests.support.fleets.world import add_user

pytestmark = pytest.mark.xdist_group("selection")

SEEDS = range(40)


@pytest.fixture(scope="module")
def engine(databases: Databases) -> Iterator[Engine]:
    database = databases.clone()
    made = sync_engine(database.app_url, "panel-sync test", pool_size=4)
    for user in range(1, CUSTOMERS + 1):
        add_user(made, user, main_site_user_id=str(user + 100))
    yield made
    made.dispose()
    databases.drop(database)


@dataclass(frozen=True, slots=True)
class Stored:
    """A random world in the database, and what a run saw of it."""

    reconciler: Reconciler
    connection: Connection
    seen: Observed
    policy: Policy

    def world(self, *, everything: bool = False, budget: int | None = None) -> tuple[World, dict[str, Any]]:
        """What a run would load now."""
        with self.connection.begin_nested() as once:
            world, counts = load_world(
                self.reconciler, self.connection, self.seen, everything=everything, budget=budget
            )
            once.rollback()
        return replace(world, now=self.seen.began["main"]), counts


@contextmanager
def stored(engine: Engine, random: Random) -> Iterator[Stored]:
    clusters: tuple[GuestSource, ...] = tuple(NoSource(name) for name in CLUSTERS)
    feed: OrderFeed = NoFeed(names=random.random() < 0.7)
    policy = replace(Policy(), proof_t=timedelta(0))
    reconciler = Reconciler(
        engine, feed, clusters, policy, Budget(), shared_ids=False, sweep_interval=policy.proof_t,
        users_interval=policy.proof_t,
    )  # fmt: skip
    run_id, _ = begin_run(engine, "full", "test", 1)
    with scratch(engine) as connection:
        now = database_now(connection)
        Rows(random, now).store(connection, run_id)
        connection.execute(text("SELECT setseed(:seed)"), {"seed": random.random()})
        before = now - timedelta(minutes=2)
        seen = Observed(
            began=dict.fromkeys(CLUSTERS, now),
            previous=dict.fromkeys(CLUSTERS, before),
            trusted=set(CLUSTERS) if random.random() < 0.8 else {"main"},
            orders_at=now,
            previous_orders_at=before,
        )
        yield Stored(reconciler, connection, seen, policy)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_filter_changes_no_decision(engine: Engine, seed: int) -> None:
    with stored(engine, Random(seed)) as made:
        world, counts = made.world()
        whole, all_counts = made.world(everything=True)
    assert counts["settled"] > 0
    assert counts["records"] < all_counts["records"], "the filter left something out"
    filtered, unfiltered = plan(world, made.policy), plan(whole, made.policy)
    assert unfiltered.changes or unfiltered.findings, "the world holds differences"
    assert identities(filtered) == identities(unfiltered)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_run_decides_does_not_depend_on_what_it_leaves(engine: Engine, seed: int) -> None:
    random, drawn = Random(seed), 0
    with stored(engine, random) as made:
        whole, _ = made.world()
        for _ in range(3):
            budget = random.randrange(12, 120)
            world, counts = made.world(budget=budget)
            assert len(world.orders) + len(world.records) + len(world.guests) <= budget // 2
            assert (counts["cut"] > 0) == (subjects_in(world) < subjects_in(whole)), "and says so"
            decided_as_in(whole, world, made.policy)
            drawn += len(world.orders)
    assert drawn > 0
