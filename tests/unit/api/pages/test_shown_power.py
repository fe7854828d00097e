"""Which power buttons a page shows, and what it says of the newest action."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from api.pages.shown_power import shown_power
from domain.power.permission import Refusal

DOUBT = Refusal("identity_in_doubt", "It is being checked", passing=True)
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
OPEN: dict[str, Any] = {
    "action": "stop", "force": False, "state": "queued", "step": 0, "code": None, "reason": None, "asked_at": NOW,
    "ended_at": None,
}  # fmt: skip
ENDED = OPEN | {"state": "failed", "code": "guest_did_not_stop", "reason": "It did not", "ended_at": NOW}
SUSPENDED = Refusal("vps_suspended", "This VPS is suspended")
GENTLE, HARD = ("stop", "reboot"), ("cut", "restart")


@pytest.mark.parametrize(
    ("power_state", "latest", "hindrance", "expected"),
    [
        pytest.param("running", None, None, (GENTLE, HARD, None), id="it runs"),
        pytest.param("stopped", None, None, (("start",), (), None), id="it is stopped"),
        pytest.param("error", None, None, ((), HARD, None), id="its system cannot be asked"),
        pytest.param("unknown", None, None, ((), (), "guest_unknown"), id="nobody knows how it runs"),
        pytest.param("running", ENDED, None, (GENTLE, HARD, None), id="the last action is over"),
        pytest.param("running", OPEN, None, ((), (), None), id="an action is open"),
        pytest.param("running", OPEN | {"state": "sent"}, None, ((), (), None), id="an action is under way"),
        pytest.param("running", None, SUSPENDED, ((), (), "vps_suspended"), id="something stands against it"),
        pytest.param("stopped", ENDED, DOUBT, ((), (), "identity_in_doubt"), id="it is read who the machine is"),
        pytest.param("stopped", ENDED, SUSPENDED, ((), (), "vps_suspended"), id="and an action is over"),
        pytest.param("running", OPEN, SUSPENDED, ((), (), None), id="an open action comes first"),
    ],
)
def test_the_buttons(
    power_state: str,
    latest: dict[str, Any] | None,
    hindrance: Refusal | None,
    expected: tuple[tuple[str, ...], tuple[str, ...], str | None],
) -> None:
    power = shown_power(power_state, latest, hindrance)
    assert (power.buttons, power.hard_buttons, power.why_none) == expected
    over = latest is not None and latest["ended_at"] is not None
    assert power.changes_soon == (power.going_on is not None or hindrance is DOUBT)
    assert (power.going_on is not None, power.last is not None) == (latest is not None and not over, over)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, ("stop", "queued", False, False), id="just asked"),
        pytest.param({"reason": "tried again"}, ("stop", "queued", True, False), id="something passing hinders it"),
        pytest.param({"state": "sending", "force": True}, ("cut", "running", False, False), id="by force"),
        pytest.param(
            {"action": "restart", "step": 1},
            ("restart", "running", False, False),
            id="a container between two",
        ),
        pytest.param(
            ENDED | {"action": "restart", "step": 1}, ("restart", "failed", False, True), id="it was stopped only"
        ),
        pytest.param(
            ENDED | {"action": "restart", "step": 1, "state": "done", "code": "done"},
            ("restart", "done", False, False),
            id="it was stopped and started",
        ),
        pytest.param(ENDED | {"action": "start"}, ("start", "failed", False, False), id="it failed"),
        pytest.param(ENDED | {"action": "reboot"}, ("reboot", "failed", False, False), id="so did the reboot"),
    ],
)
def test_the_newest_action(changes: dict[str, Any], expected: tuple[str, str, bool, bool]) -> None:
    power = shown_power("running", OPEN | changes, None)
    action = power.going_on or power.last
    assert action is not None
    assert (action.wish, action.state, action.waits, action.halfway) == expected
