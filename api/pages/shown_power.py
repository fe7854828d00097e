"""What a page shows of the power of one VPS: its buttons or why there are none, what is going on, and how the last
action ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.power.actions import Action
from domain.power.permission import Refusal
from panel.power.views import public_state

WISHES = {
    "start": (Action.START, False),
    "stop": (Action.STOP, False),
    "reboot": (Action.REBOOT, False),
    "cut": (Action.STOP, True),
    "restart": (Action.RESTART, False),
}
"""The field ``action`` of a button's form: what is asked for, and whether by force."""

HARD = frozenset({"cut", "restart"})
"""The system is not asked, so data may be lost. Their forms ask once more."""

NOT_CHECKED = Refusal("not_checked", "It was not checked in time whether this VPS can be switched", passing=True)
"""Why there are no buttons while the panel cannot look at all that may stand against them."""

MOMENTARY = frozenset({"vps_changing", "identity_in_doubt"})
"""What stands against an action for some seconds, as after each action, until the panel is sure of the machine again.
That it is over changes no record, so no stream tells the page."""

BUTTONS: dict[str, tuple[str, ...]] = {
    "running": ("stop", "reboot", "cut", "restart"),
    "stopped": ("start",),
    "error": ("cut", "restart"),  # its system cannot be asked
}
"""Which buttons fit a power state."""


@dataclass(frozen=True, slots=True)
class ShownAction:
    """An action as its customer sees it. ``wish``: a name of ``WISHES``. ``state`` and ``code``: as the API answers
    them. ``waits``: something passing stands against it. ``halfway``: a container was stopped, and its start is not
    certain."""

    wish: str
    state: str
    code: str | None
    waits: bool
    halfway: bool
    asked_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ShownPower:
    """``buttons`` and ``hard_buttons``: names of ``WISHES``. ``why_none``: the code of what stands against any."""

    buttons: tuple[str, ...] = ()
    hard_buttons: tuple[str, ...] = ()
    why_none: str | None = None
    going_on: ShownAction | None = None
    last: ShownAction | None = None

    @property
    def changes_soon(self) -> bool:
        """Whether the page should look again within seconds."""
        return self.going_on is not None or self.why_none in MOMENTARY


def shown_power(power_state: str, latest: Mapping[str, Any] | None, hindrance: Refusal | None) -> ShownPower:
    """What a page shows. ``power_state``: of the record. ``latest``: the row of the customer's newest action of this
    VPS. ``hindrance``: why an action would be refused now."""
    action = None if latest is None else shown_action(latest)
    if action is not None and action.ended_at is None:
        return ShownPower(going_on=action)
    if hindrance is not None:
        return ShownPower(why_none=hindrance.code, last=action)
    fitting = BUTTONS.get(power_state)
    if fitting is None:
        return ShownPower(why_none="guest_unknown", last=action)
    return ShownPower(
        buttons=tuple(wish for wish in fitting if wish not in HARD),
        hard_buttons=tuple(wish for wish in fitting if wish in HARD),
        last=action,
    )


def wish_of(action: str, *, force: bool) -> str:
    """The name of ``WISHES`` for a stored action."""
    asked = (Action(action), force)
    return next(wish for wish, meant in WISHES.items() if meant == asked)


def shown_action(row: Mapping[str, Any]) -> ShownAction:
    """An action of ``client_actions`` as its customer sees it."""
    return ShownAction(
        wish=wish_of(row["action"], force=row["force"]),
        state=public_state(row["state"], row["step"]),
        code=row["code"],
        waits=row["ended_at"] is None and row["reason"] is not None,
        halfway=row["step"] > 0 and row["ended_at"] is not None and row["state"] != "done",
        asked_at=row["asked_at"],
        ended_at=row["ended_at"],
    )
