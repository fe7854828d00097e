"""What the list of differences says of each record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from domain.changes import Kind
from domain.repair_policy.budget import Handling
from panel.operators.pauses import PauseView
from panel.operators.reports.drift import DriftRow
from panel.operators.reports.drift_fates import Fate, Hindrances, fate_of, paused_vps

EARLY, LATE = datetime(2026, 12, 1, 6, tzinfo=UTC), datetime(2026, 12, 1, 7, tzinfo=UTC)


def row(*classes: str) -> DriftRow:
    return DriftRow(11, "web", 5, "anna", "o1", "fra1", 104, list(classes), [])


def paused(**until: datetime) -> dict[str, PauseView]:
    named = {target.replace("_", ":"): at for target, at in until.items()}
    return {target: PauseView(target, "moving", "api:olga", EARLY, at) for target, at in named.items()}


@pytest.mark.parametrize(
    ("classes", "stands", "fate"),
    [
        pytest.param(["plan"], {}, Fate("repaired"), id="nothing in its way"),
        pytest.param(["link"], {}, Fate("repaired"), id="a class that no policy names"),
        pytest.param(["spec"], {}, Fate("reported"), id="no run resizes a guest"),
        pytest.param(["spec", "plan"], {}, Fate("repaired"), id="a part of it"),
        pytest.param(["plan"], {"handling": {Kind.SIZE: Handling.IGNORE}}, Fate("ignored"), id="ignored"),
        pytest.param(["plan"], {"handling": {Kind.SIZE: Handling.HOLD}}, Fate("held"), id="to be held"),
        pytest.param(["plan"], {"held": frozenset({"order:o1"})}, Fate("held"), id="held by its order"),
        pytest.param(["plan"], {"held": frozenset({"vps:12"})}, Fate("repaired"), id="another is held"),
        pytest.param(["plan"], {"troubled": frozenset({"proxmox:fra1"})}, Fate("not-judged"), id="its cluster"),
        pytest.param(["plan"], {"troubled": frozenset({"proxmox:ams1"})}, Fate("repaired"), id="another cluster"),
        pytest.param(["plan"], {"quarantined": frozenset({"vps:11"})}, Fate("quarantined"), id="quarantined"),
        pytest.param(
            ["plan"],
            {"pauses": paused(vps_11=EARLY, user_5=LATE), "held": frozenset({"vps:11"})},
            Fate("paused", LATE),
            id="paused twice and held: the longer pause",
        ),
        pytest.param(["plan"], {"pauses": paused(user_6=LATE)}, Fate("repaired"), id="another customer is paused"),
    ],
)
def test_what_happens(classes: list[str], stands: dict[str, Any], fate: Fate) -> None:
    assert fate_of(row(*classes), Hindrances(**stands)) == fate


def test_which_vps_are_paused_by_themselves() -> None:
    assert paused_vps(["vps:12", "all", "user:5", "vps:3", "proxmox:fra1"]) == [3, 12]
