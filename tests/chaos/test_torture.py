"""A minute of every fault of the panel's own parts under load; `make torture` takes longer, and judges speed too."""

from __future__ import annotations

import pytest

from lab.chaos.faults import LOAD_KINDS
from lab.chaos.rig import Rig
from lab.chaos.schedule import schedule_of
from lab.chaos.stage import perform
from tests.chaos.conftest import ANSWERED_S

pytestmark = [pytest.mark.torture]

SEED, SECONDS, RATE = 5, 60.0, 80.0
TROUBLE_S = 2.5
"""So often something fails that a minute sees everything fail."""


def test_a_minute_of_torture(rig: Rig) -> None:
    schedule = schedule_of(SEED, SECONDS, LOAD_KINDS, troubles_every_s=TROUBLE_S)
    outcome = perform(rig, schedule, rate=RATE, loaded=100, callers=8, answer_s=ANSWERED_S)
    said = "\n".join([*outcome.summary(), *outcome.tale()])
    print("\n".join([*outcome.summary(), *outcome.broken_promises]))  # noqa: T201 - CI keeps the numbers
    assert outcome.failures == [], said
    assert outcome.accepted > 0, said  # something to lose; `make torture` asks for 100 calls for each fault
    assert set(outcome.faults) == {kind.name for kind in LOAD_KINDS}
    assert sum(outcome.poison) > 0, said
