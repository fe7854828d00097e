"""The words of power actions: what a customer asks for, what Proxmox is told, and how far an action has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from domain.guests import GuestType, PowerState


class Action(StrEnum):
    """What a customer may ask for."""

    START = "start"
    STOP = "stop"  # asks the guest to shut down; with ``force`` it cuts the power
    REBOOT = "reboot"  # asks the guest to restart
    RESTART = "restart"  # a hard reset


class Command(StrEnum):
    """What Proxmox is told, in its own words."""

    START = "start"
    STOP = "stop"  # cuts the power
    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    RESET = "reset"


class State(StrEnum):
    """How far an action has come."""

    QUEUED = "queued"  # nothing was sent, or the next command of several was not sent yet
    SENDING = "sending"  # noted before the request; while it lasts, the request may or may not have arrived
    SENT = "sent"  # Proxmox named its task
    DONE = "done"  # the wanted state was seen on the guest
    FAILED = "failed"  # it was not done, and why
    REFUSED = "refused"  # the panel sent nothing, and why
    UNKNOWN = "unknown"  # nobody can tell, and it is never sent again


OPEN = (State.QUEUED, State.SENDING, State.SENT)
"""A VPS has at most one action in these states."""

TOLD = {
    (Action.START, False): "start",
    (Action.STOP, False): "shut down",
    (Action.STOP, True): "cut the power",
    (Action.REBOOT, False): "reboot",
    (Action.RESTART, False): "reset",
}
"""What operators are told that a customer asked for, by action and ``force``."""

SHUTDOWN_S = 60
"""For how long Proxmox waits for a guest that was asked to shut down."""

BEGIN_WITHIN_S = 120
"""An action that nothing was sent of for this long is not begun any more: the customer has stopped waiting for it."""

GO_ON_WITHIN_S = 600
"""The same for the start after the stop of a container's restart: without it, the panel would leave the container
stopped."""


def commands_of(action: Action, guest_type: GuestType, *, force: bool) -> tuple[Command, ...]:
    """What is sent, one after the other. A container has no reset, so it is stopped and started."""
    match action:
        case Action.START:
            return (Command.START,)
        case Action.STOP:
            return (Command.STOP,) if force else (Command.SHUTDOWN,)
        case Action.REBOOT:
            return (Command.REBOOT,)
        case Action.RESTART:
            return (Command.RESET,) if guest_type is GuestType.QEMU else (Command.STOP, Command.START)


def task_kinds(command: Command) -> frozenset[str]:
    """How Proxmox names the tasks of a command. A guest of the HA manager is only asked to be started or stopped."""
    kinds = {f"{prefix}{command}" for prefix in ("qm", "vz")}
    if command is Command.START:
        kinds.add("hastart")
    if command in (Command.STOP, Command.SHUTDOWN):
        kinds.add("hastop")
    return frozenset(kinds)


@dataclass(frozen=True, slots=True)
class GuestNow:
    """A guest as its own node shows it. ``status``: Proxmox's word. ``uptime_s`` and ``pid``: of its process; None: not
    said. ``ha``: the HA manager starts and stops it. ``fingerprint`` and ``name``: from its configuration, read with
    it."""

    node: str
    fingerprint: str | None
    power: PowerState
    status: str
    lock: str | None = None
    ha: bool = False
    template: bool = False
    uptime_s: int | None = None
    pid: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """What was seen just before a command was sent. ``tasks``: the tasks of this token for this guest that were there
    already; None: they could not be listed."""

    status: str
    uptime_s: int | None
    pid: int | None
    tasks: frozenset[str] | None

    def to_plain(self) -> dict[str, Any]:
        """A JSON-ready form."""
        tasks = None if self.tasks is None else sorted(self.tasks)
        return {"status": self.status, "uptime_s": self.uptime_s, "pid": self.pid, "tasks": tasks}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Before:
        """Read what ``to_plain`` wrote."""
        tasks = plain["tasks"]
        return cls(plain["status"], plain["uptime_s"], plain["pid"], None if tasks is None else frozenset(tasks))
