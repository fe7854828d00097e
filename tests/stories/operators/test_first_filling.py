"""The first filling of a panel: one word of an operator, whatever the limit on creates, and no change of settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from panel.operators.gate_context import acknowledge_first_plan
from panel.operators.holds import Decision
from reconcile.run import RunResult, run_full
from tests.stories.steps import decide, execute, held_sets, live
from tests.support.bench import Bench


def run(world: Bench) -> RunResult:
    """As in production: the first plan waits for an operator."""
    world.clock.tick()
    return run_full(replace(world.reconciler(), first_run_asks=True), trigger="test")


def by_the_plan(world: Bench) -> None:
    with world.engine.begin() as connection:
        acknowledge_first_plan(connection)


def by_the_set(world: Bench) -> None:
    (held,) = held_sets(world)
    decide(world, held.hash[:12], Decision.APPROVED)


@pytest.mark.parametrize("word", [by_the_plan, by_the_set], ids=["reconcile --apply", "approve"])
def test_one_word_fills_the_panel(world: Bench, word: Callable[[Bench], None]) -> None:
    world.site.fill(60, user_id=1, cluster=None)
    run(world)
    (held,) = held_sets(world)
    assert (held.scope, len(held.items), live(world)) == ("creates", 60, [])
    assert "reconcile --apply" in held.reason
    word(world)
    run(world)
    assert len(live(world)) == 60, "the limit is 25"
    assert held_sets(world) == []
    assert "held" not in world.finding_classes()


def test_what_comes_after_the_word_is_limited(world: Bench) -> None:
    world.site.fill(3, user_id=1, cluster=None)
    run(world)
    by_the_plan(world)
    run(world)
    world.site.fill(40, user_id=1, cluster=None, first_vmid=1000)
    run(world)
    assert len(live(world)) == 3
    (held,) = held_sets(world)
    assert held.reason == "40 creates in one run, the limit is 25"


def test_an_order_that_changed_its_owner_since_is_not_covered(world: Bench) -> None:
    world.site.fill(60, user_id=1, cluster=None)
    run(world)
    by_the_plan(world)
    execute(world, "UPDATE users SET mapped_at = clock_timestamp() WHERE id = 5")
    run(world)
    assert live(world) == []
    assert [held.scope for held in held_sets(world)] == ["creates"]


def test_the_word_is_over_after_a_day(world: Bench) -> None:
    world.site.fill(60, user_id=1, cluster=None)
    run(world)
    by_the_plan(world)
    execute(world, "UPDATE source_states SET filling_since = filling_since - interval '25 hours'")
    run(world)
    assert live(world) == []


def test_a_later_word_does_not_lift_the_limit(world: Bench) -> None:
    """It is for the first filling; what is held later is approved as a set."""
    world.site.fill(3, user_id=1, cluster=None)
    run(world)
    by_the_plan(world)
    run(world)
    execute(world, "UPDATE source_states SET filling_since = filling_since - interval '25 hours'")
    world.site.fill(40, user_id=1, cluster=None, first_vmid=1000)
    run(world)
    by_the_plan(world)
    run(world)
    assert len(live(world)) == 3
    by_the_set(world)
    run(world)
    assert len(live(world)) == 43
