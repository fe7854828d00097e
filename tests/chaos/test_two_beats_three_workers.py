"""A minute of faults on the whole panel: nothing lost, nothing doubled, one scheduler and one run at a time."""

from __future__ import annotations

import pytest

from chaos.faults import KINDS
from chaos.report import TAKEOVER_S
from chaos.rig import Rig
from chaos.schedule import schedule_of
from chaos.stage import perform

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

SEED, SECONDS, RATE = 20, 60.0, 20.0


def test_two_beats_and_three_workers_under_faults(rig: Rig) -> None:
    schedule = schedule_of(SEED, SECONDS, KINDS)
    outcome = perform(rig, schedule, rate=RATE)
    said = "\n".join([*outcome.summary(), *outcome.tale()])

    assert len(rig.named("beat")) == 2
    assert len(rig.named("worker")) == 3
    assert outcome.failures == [], said
    # It was a minute of faults, and there was something to lose.
    assert {kind.name for kind in KINDS if not kind.outside} <= set(outcome.faults), said
    assert outcome.answered >= RATE * SECONDS / 4, said
    assert outcome.counts.repairs > 0, said
    assert outcome.counts.epochs > 10, said
    # Each killed scheduler had a successor; how soon is told wherever Redis was there to see it.
    assert outcome.takeovers_s, said
    assert None not in outcome.takeovers_s, said
    assert min(s for s in outcome.takeovers_s if s is not None) < TAKEOVER_S, said
