"""A run writes nothing that one operator approved alone, and all that two did."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from domain.repair_policy.budget import Budget
from panel.operators.approvals.deciding import decide_hold
from panel.operators.holds import Decision
from panel.records.history import vps_history
from reconcile import run as runs
from reconcile.decision.gate import REJECTED_BEFORE
from reconcile.run import run_full, write_plan
from tests.stories.steps import ABSENT, Sold, converge, decide, end_silently, execute, held_sets, live, sell
from tests.support.bench import Bench, bench
from tests.support.databases import Database
from tests.support.stand_ins.webhook_receiver import events, want_events


@pytest.fixture
def world(database: Database, engine: Engine) -> Iterator[Bench]:
    with bench(database, engine, second_approval_above=3) as world:
        yield world


@pytest.fixture
def gone(world: Bench) -> tuple[Sold, ...]:
    """Four records that are due to be deleted, and held."""
    sold = tuple(sell(world, f"gone-{n}") for n in range(4))
    converge(world, sell(world, "keep"), *sold)
    end_silently(world, *sold)
    world.run(ABSENT)
    return sold


@pytest.mark.usefixtures("gone")
def test_a_plan_tells_of_the_first_approval_of_a_set_that_shrank(world: Bench) -> None:
    """Two of the four are below the number, and still they need two operators."""
    approve(world, "api:ann")
    first, second = (item["subject"] for item in held_sets(world)[0].items[:2])
    execute(
        world,
        "UPDATE vps SET protected_until = clock_timestamp() + interval '1 day'"
        " WHERE id IN (CAST(substr(:first, 5) AS bigint), CAST(substr(:second, 5) AS bigint))",
        first=first,
        second=second,
    )
    result = world.run()
    assert result.gated is not None
    assert [(len(held.changes), held.needs_second) for held in result.gated.held] == [(2, True)]


NO_LIMITS = Budget(deletes_run=99, deletes_node_min=99, deletes_user_min=99)


def approve(world: Bench, by: str, hash_: str | None = None) -> None:
    """``hash_``: of the set; None: the only one that is held."""
    if hash_ is None:
        (hash_,) = (held.hash for held in held_sets(world))
    with world.engine.begin() as connection:
        decide_hold(connection, hash_, Decision.APPROVED, by, above=world.settings.second_approval_above)


def test_not_after_one_and_after_two(world: Bench, gone: tuple[Sold, ...]) -> None:
    want_events(world.engine)
    approve(world, "api:ann")
    result = world.run(2)
    assert len(live(world)) == 5
    assert result.gated is not None
    assert [held.needs_second for held in result.gated.held] == [True]
    assert result.counts["open"] == {"missed-delete": 4}, "as the service level tells"
    approve(world, "api:bob")
    assert world.run().counts["open"] == {}
    assert len(live(world)) == 1
    with world.engine.connect() as connection:
        last = vps_history(connection, gone[0].vps_id).operations[-1]
    assert last.evidence["approved_by"] == ["api:ann", "api:bob"], "its history names both"
    deletes = [event["body"] for event in events(world.engine) if event["type"] == "vps.deleted"]
    assert len(deletes) == 4
    assert not [told for told in deletes if "ann" in told or "bob" in told], "and the main site is told of neither"


@pytest.mark.usefixtures("gone")
def test_not_by_a_run_that_is_under_way(world: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first approval comes before the gate of the run, the second after it."""
    approve(world, "api:ann")
    asked = threading.Event()

    def second_comes_now(*arguments: object) -> object:
        if not asked.is_set():
            asked.set()
            approve(world, "api:bob")
        return write_plan(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "write_plan", second_comes_now)
    world.run()
    assert (asked.is_set(), len(live(world))) == (True, 5), "its gate saw one approval"
    world.run()
    assert len(live(world)) == 1


@pytest.mark.usefixtures("gone")
def test_not_by_a_process_that_knows_no_second_operator(world: Bench) -> None:
    """An API process of the version before stores the word of one as the decision."""
    (held,) = held_sets(world)
    old = "UPDATE holds SET decision = 'approved', decided_by = 'api:ann', decided_at = clock_timestamp()"
    execute(world, f"{old} WHERE decision IS NULL")
    world.run()
    assert len(live(world)) == 5
    assert [again.hash for again in held_sets(world)] == [held.hash], "the run asks again"
    approve(world, "api:bob")
    world.run()
    assert len(live(world)) == 1, "what she said is one of two"


def test_one_approval_lifts_no_rejection_that_the_limits_would_let_through(
    world: Bench, gone: tuple[Sold, ...]
) -> None:
    """The second operator approves the set that the first saw. Of what was rejected meanwhile only he approves."""
    (first,) = held_sets(world)
    approve(world, "api:ann")
    execute(world, "UPDATE vps SET version = version + 1 WHERE id = :id", id=gone[0].vps_id)
    world.run()
    (changed,) = held_sets(world)
    decide(world, changed.hash, Decision.REJECTED)
    world.run()
    approve(world, "api:bob", first.hash)
    without_limits = replace(world.reconciler(), budget=NO_LIMITS)
    run_full(without_limits, trigger="test")
    assert len(live(world)) == 5
    (again,) = held_sets(world)
    assert (again.scope, len(again.items)) == (REJECTED_BEFORE, 3), "a second operator finds them"
    approve(world, "api:carol")
    run_full(without_limits, trigger="test")
    assert len(live(world)) == 2, "the one that changed is rejected still"
