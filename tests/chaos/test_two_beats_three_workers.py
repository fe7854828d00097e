"""A minute of faults on the whole panel: nothing lost, nothing doubled, one scheduler and one run at a time."""

from __future__ import annotations

import time

import pytest

from lab.chaos.faults import KINDS
from lab.chaos.rig import Rig
from lab.chaos.schedule import schedule_of
from lab.chaos.stage import perform
from tests.chaos.conftest import ANSWERED_S
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.chaos]

SEED, SECONDS, RATE = 20, 60.0, 20.0


@pytest.mark.torture
def test_the_second_beat_takes_over(rig: Rig) -> None:
    def scheduling() -> int | None:
        rig.check()
        return rig.beats.active

    first = wait_until(scheduling, "a beat to schedule")
    assert first is not None
    killed_at = time.time()
    rig.kill(rig.active_beat())

    def successor() -> float | None:
        rig.check()
        return rig.beats.took_over(first, killed_at)

    took_s = wait_until(successor, "the other beat to schedule")
    assert took_s is not None
    assert rig.beats.active != first


@pytest.mark.torture
def test_two_beats_and_three_workers_under_faults(rig: Rig) -> None:
    schedule = schedule_of(SEED, SECONDS, KINDS)
    outcome = perform(rig, schedule, rate=RATE, answer_s=ANSWERED_S)
    said = "\n".join([*outcome.summary(), *outcome.tale()])

    assert len(rig.named("beat")) == 2
    assert [len(rig.named(f"worker-{name}")) for name in ("sync", "reconcile", "3")] == [1, 1, 1]
    assert outcome.failures == [], said
    # It was a minute of faults, and there was something to lose.
    assert {kind.name for kind in KINDS if not kind.outside} <= set(outcome.faults), said
    assert outcome.accepted > 0, said
    assert outcome.counts.repairs > 0, said
    assert outcome.counts.epochs > 1, said
    assert None not in outcome.takeovers_s, said
