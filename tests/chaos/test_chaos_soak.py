"""What a test run has no time for: ten minutes, and fifty worlds ten side by side."""

from __future__ import annotations

import pytest

from lab.chaos.faults import KINDS
from lab.chaos.rig import Rig
from lab.chaos.schedule import schedule_of
from lab.chaos.stage import perform

pytestmark = [pytest.mark.chaos, pytest.mark.soak]

TEN_MINUTES = 600.0
BATCHES, SIDE_BY_SIDE, WORLD_S = 5, 10, 20.0


@pytest.mark.timeout(2_400)
def test_ten_minutes_of_faults(rig: Rig) -> None:
    outcome = perform(rig, schedule_of(1, TEN_MINUTES, KINDS), rate=20.0)
    assert outcome.failures == [], "\n".join([*outcome.summary(), *outcome.tale()])


@pytest.mark.parametrize("batch", range(BATCHES))
def test_worlds(rig: Rig, batch: int) -> None:
    schedule = schedule_of(1000 + batch, WORLD_S, KINDS, worlds=SIDE_BY_SIDE, events_every_s=2.0)
    outcome = perform(rig, schedule)
    assert outcome.failures == [], "\n".join([*outcome.summary(), *outcome.tale()])
