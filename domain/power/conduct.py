"""What to send, and what an answer means. Pure: what was seen goes in, the next step comes out.

The state of the guest decides, never the English text of an error: "already running" is a success because the guest
runs, whatever Proxmox called it.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.guests import PowerState
from domain.power.actions import SHUTDOWN_S, Before, Command, GuestNow, State, task_kinds
from domain.power.port import OwnTask, TaskEnded


@dataclass(frozen=True, slots=True)
class Send:
    """Send this command now."""

    command: Command


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reached:
    """The guest is as the command wants it."""

    how: str


@dataclass(frozen=True, slots=True)
class End:
    """The action is over. ``reason``: a sentence for the customer."""

    state: State
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """This task is the command's, though its answer was lost."""

    upid: str


LOCKS = {
    "backup": "a backup of it is running",
    "clone": "it is being cloned",
    "create": "it is being created",
    "disk": "a disk of it is being changed",
    "fstrim": "its disks are being trimmed",
    "migrate": "it is being moved to another node",
    "mounted": "its disks are mounted on the node",
    "rollback": "a snapshot of it is being restored",
    "snapshot": "a snapshot of it is being taken",
    "snapshot-delete": "a snapshot of it is being deleted",
    "suspending": "it is being hibernated",
}
"""Proxmox's locks in words."""

HIBERNATED = "suspended"
"""The lock of a hibernated guest. A start wakes it up."""

STOPPED, RUNNING = "stopped", "running"
"""Proxmox's words for the two states that an action may want."""

POLL_S = 2.0
LATER_S = 5.0
"""Seconds between looks: at first, and after some time."""

LOST_FOR_S = 45.0
"""For how long a request whose answer was lost is looked for. A node that did not answer within 30 s gives 596."""

SETTLE_S = {
    Command.START: 120.0,
    Command.STOP: 90.0,
    Command.SHUTDOWN: SHUTDOWN_S + 60.0,
    Command.REBOOT: SHUTDOWN_S + 120.0,
    Command.RESET: 60.0,
}
"""How long after the request the guest may take to be as wanted."""

HA_S = 180.0
"""So much longer with the HA manager, which only notes the request and may move the guest."""

HA_CUTS_POWER = (
    "The cluster's HA manager runs this machine, and it would cut the power if the system did not shut down in time."
    " Shut it down from inside, or cut the power. Nothing was sent"
)
"""The HA manager ignores ``forceStop=0`` for a VM. Neither kind of guest is asked, so that "off" means the same."""

UPTIME_SLACK_S = 5
"""A process is another one if it is this much younger than the one before would be by now."""


def locked(lock: str) -> str:
    """Why a locked guest is left alone."""
    return f"The machine is locked: {LOCKS.get(lock, 'Proxmox works on it')}. Try again when that is over"


def first_step(command: Command, now: GuestNow, *, of_a_restart: bool) -> Send | Wait | End:
    """What to do about a command that was not sent. ``of_a_restart``: the stop of a container that is to be started
    again, so a stopped one is no success."""
    if now.template:
        return End(State.REFUSED, "identity_in_doubt", "The machine was turned into a template; nothing was sent")
    if now.lock is not None and now.lock != HIBERNATED:
        return End(State.REFUSED, "guest_locked", f"{locked(now.lock)}. Nothing was sent")
    if now.status == STOPPED:
        if command is Command.START:
            return Send(command)
        if command in (Command.STOP, Command.SHUTDOWN) and not of_a_restart:
            return End(State.DONE, "already_stopped", "The machine was stopped already; nothing was sent")
        return End(State.REFUSED, "guest_stopped", "The machine is stopped: start it instead. Nothing was sent")
    if command is Command.START:
        if now.status == RUNNING:
            return End(State.DONE, "already_running", "The machine was running already; nothing was sent")
        message = f"Proxmox shows the machine as {now.status}, which a start does not change. Nothing was sent"
        return End(State.REFUSED, "guest_state", message)
    if command is Command.SHUTDOWN and now.ha:
        return End(State.REFUSED, "ha_cuts_power", HA_CUTS_POWER)
    if now.power is PowerState.UNKNOWN and command is not Command.STOP:
        return Wait(LATER_S)
    return Send(command)


def reached(command: Command, before: Before, now: GuestNow, elapsed_s: float) -> bool:
    """Whether the guest itself shows that the command was done. A reset leaves no trace on it, so it never does."""
    match command:
        case Command.START:
            return now.status == RUNNING
        case Command.STOP | Command.SHUTDOWN:
            return now.status == STOPPED
        case Command.REBOOT:
            return now.status == RUNNING and _another_process(before, now, elapsed_s)
        case Command.RESET:
            return False


def _another_process(before: Before, now: GuestNow, elapsed_s: float) -> bool:
    if before.pid is not None and now.pid is not None and before.pid != now.pid:
        return True
    if before.uptime_s is None or now.uptime_s is None:
        return False
    return now.uptime_s + UPTIME_SLACK_S < before.uptime_s + elapsed_s


def after_task(
    command: Command, ended: TaskEnded, before: Before, now: GuestNow, elapsed_s: float
) -> Reached | Wait | End:
    """What the end of the task means, together with the guest as it is now. ``elapsed_s``: since the request."""
    if reached(command, before, now, elapsed_s):
        return Reached(f"the guest is {now.status}")
    if command is Command.RESET and ended.ok and now.status == RUNNING:
        return Reached("Proxmox reset it, and it runs")
    if not ended.ok:
        return _not_done(command, now)
    if elapsed_s < SETTLE_S[command] + (HA_S if now.ha else 0.0):
        return Wait(POLL_S)  # a guest of the HA manager, or a node that is slow to tell
    if command is Command.REBOOT and now.status == RUNNING:
        return End(State.UNKNOWN, "not_confirmed", "Proxmox reported success, but nothing shows that it was restarted")
    message = f"Proxmox reported success, but the machine is still {now.status}"
    return End(State.FAILED, "not_reached", message)


def _not_done(command: Command, now: GuestNow) -> End:
    if now.lock is not None and now.lock != HIBERNATED:
        return End(State.FAILED, "guest_locked", locked(now.lock))
    if command is Command.SHUTDOWN:
        message = f'The system did not shut down within {SHUTDOWN_S} s. To cut the power, send {{"force": true}}'
        return End(State.FAILED, "guest_did_not_stop", message)
    if command is Command.REBOOT:
        message = f"The system did not shut down within {SHUTDOWN_S} s, so it was not restarted"
        return End(State.FAILED, "guest_did_not_stop", message)
    return End(State.FAILED, "proxmox_failed", f"Proxmox could not do it; the machine is {now.status}")


def while_it_runs(command: Command, now: GuestNow | None, elapsed_s: float) -> Wait | End:
    """The task is not over, or the node does not say whether it is."""
    ha = now is not None and now.ha
    if elapsed_s < SETTLE_S[command] + (HA_S if ha else 0.0):
        return Wait(POLL_S if elapsed_s < 20 else LATER_S)
    return End(State.UNKNOWN, "not_confirmed", "Proxmox did not finish it in time; the machine's state will show it")


def search(
    command: Command, before: Before, now: GuestNow, tasks: tuple[OwnTask, ...] | None, elapsed_s: float,
    *, rejected: bool,
) -> Adopt | Reached | Wait | End:  # fmt: skip
    """A command was noted as about to be sent, and no task is known. What became of it? ``tasks`` None: they could not
    be listed. ``rejected``: Proxmox answered with an error, so most likely nothing began.

    Only a task that was not there before, of the right kind and the only one, counts as this command's. The command is
    never sent again, whatever is found.
    """
    new = [task for task in tasks or () if before.tasks is not None and task.upid not in before.tasks]
    fitting = [task for task in new if task.kind in task_kinds(command)]
    if len(fitting) == 1 and len(new) == 1:
        return Adopt(fitting[0].upid)
    if reached(command, before, now, elapsed_s) and not new:
        return Reached(f"the guest is {now.status}")
    if elapsed_s < (POLL_S * 2 if rejected else LOST_FOR_S):
        return Wait(POLL_S if elapsed_s < 20 else LATER_S)
    if rejected and before.tasks is not None and tasks is not None and not new:
        if now.lock is not None:
            return _not_done(command, now)
        return End(State.FAILED, "proxmox_refused", f"Proxmox refused it; the machine is {now.status}")
    return not_told()


HALFWAY = "The container was stopped, and it is not certain that it was started again: start it. Why: "
"""Before the reason of a restart's end that came between its two commands."""


def not_taken() -> End:
    """The end of an action that no worker ever took up, or not to its end, while nothing was sent."""
    return End(State.FAILED, "expired", "No worker of the panel took it up in time. Nothing was sent; ask for it again")


def not_told() -> End:
    """The end of an action of which nobody can tell what became."""
    message = (
        "The answer of Proxmox was lost, and it can't be told whether it was done. It is not sent again; look at the"
        " machine's state before you ask anew"
    )
    return End(State.UNKNOWN, "answer_lost", message)
