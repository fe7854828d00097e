"""One step of a power action: look, decide, note, send, or see what came of it.

Each message of the queue ``power`` does one step and ends, so nothing waits for a guest. The relay publishes an open
action again when its next step is due, also after a worker died. docs/life-of-a-power-action.md tells the steps in
order.

A command is sent at most once: first it is noted as about to be sent, in a transaction of its own that only one worker
can win. After this note the command is only looked for, never sent again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine

from domain.guests import GuestType
from domain.power import conduct
from domain.power.actions import Action, Before, Command, GuestNow, State, commands_of
from domain.power.conduct import Adopt, End, Reached, Send, Wait
from domain.power.permission import Refusal
from domain.power.port import Lost, NotSent, PowerSource, Rejected, Reply, Sent, TaskEnded, TaskRuns
from domain.source_protocols import Found, Unclear
from panel.power import progress
from panel.power.facts import PowerRules, Target, permitted
from panel.power.progress import Taken, TakenOverError

READS_S = 40.0
"""Seconds for all reads before a command is sent. What was read longer ago is read again by the next step."""

IDENTITY_S = 10.0
"""The longest time from the last read of the identity to the request."""

AGAIN_S = 5.0
"""Seconds until a step is tried again that something passing stood against."""

SILENT_AGAIN_S = 20.0
"""Seconds until a cluster or node that did not answer is asked again. Each try may keep a process waiting for as long,
and other machines' actions need the processes, too."""

OVER = "it is over, or another worker has it"

OFF = End(State.REFUSED, "power_actions_off", "Power actions were switched off. Nothing was sent")
NO_CLUSTER = End(State.REFUSED, "not_linked", "The cluster of this VPS is not configured any more. Nothing was sent")
ANOTHER = End(State.REFUSED, "another_machine", "Another machine has the address of this VPS. Nothing was sent")
ANOTHER_BY_NOW = End(
    State.UNKNOWN,
    "another_machine",
    "Another machine has the address of this VPS by now, so nobody can tell what came of it",
)
RENAMED = End(
    State.REFUSED, "identity_in_doubt", "The container has another name than a moment ago. Nothing was sent; try again"
)
NOT_OURS = End(
    State.FAILED,
    "guest_stopped",
    "The machine is stopped, but perhaps not by this restart, so it was not started again: start it",
)
TOO_SLOW = End(State.FAILED, "too_slow", "The panel was too slow to be sure of the machine. Nothing was sent")
NOT_REACHED = End(State.FAILED, "cluster_away", "The cluster could not be reached. Nothing was sent")
NOT_ENTITLED = End(State.FAILED, "not_entitled", "Proxmox does not let the panel do this. Nothing was done")

SILENT = "The machine can't be looked at now; this is tried again for a moment"
SLOW = "Proxmox answers too slowly; this is tried again for a moment"
STATELESS = "Proxmox does not say how the machine runs; this is tried again for a moment"


def seconds_since_boot() -> float:
    """Seconds on a clock that also counts while the host is suspended. ``time.monotonic`` does not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class PowerWorker:
    """Does the steps. ``source_of``: a configured cluster, or None. ``rules`` None: power actions are switched off."""

    engine: Engine
    source_of: Callable[[str], PowerSource | None]
    rules: PowerRules | None
    clock: Callable[[], float] = seconds_since_boot

    def step(self, action_id: int) -> str:
        """Do the next step of the action. Returns a short text for the task list. A step that fails is tried again."""
        with self.engine.begin() as connection:
            taken = progress.take(connection, action_id)
        if taken is None:
            return OVER
        try:
            return self._step(taken)
        except TakenOverError:
            return OVER
        except Exception:
            with contextlib.suppress(Exception), self.engine.begin() as connection:
                progress.put_back(connection, taken, AGAIN_S)  # what was noted as about to be sent is not sent again
            raise

    def _step(self, taken: Taken) -> str:
        sent = taken.sending_age_s is not None
        if taken.too_long:
            return self._end(taken, conduct.not_told() if sent else _expired(taken))
        source = self.source_of(taken.cluster)
        if sent:
            return self._follow(taken, source)
        if taken.expired:
            return self._end(taken, _expired(taken))
        if self.rules is None:
            return self._end(taken, OFF)
        if source is None:
            return self._end(taken, NO_CLUSTER)
        return self._begin(taken, source, self.rules)

    # --- before anything is sent

    def _begin(self, taken: Taken, source: PowerSource, rules: PowerRules) -> str:
        began = self.clock()
        with self.engine.begin() as connection:
            allowed = _permitted(connection, taken, rules)
        if isinstance(allowed, Refusal):
            return self._refused(taken, allowed)
        looked = source.look(allowed.node, taken.guest_type, taken.vmid)
        if not isinstance(looked, Found):
            return self._wait(taken, SILENT_AGAIN_S, SILENT)
        now = looked.value
        if now.fingerprint != taken.fingerprint:
            return self._end(taken, ANOTHER, now)
        if taken.guest_type is GuestType.LXC and None not in (allowed.name, now.name) and allowed.name != now.name:
            # A container is known by its MAC, and some hosters give a MAC out again together with its address.
            return self._end(taken, RENAMED, now)
        commands = commands_of(taken.action, taken.guest_type, force=taken.force)
        decided = conduct.first_step(
            commands[taken.step], now, of_a_restart=taken.action is Action.RESTART and len(commands) > 1
        )
        match decided:
            case Wait(seconds=seconds):
                return self._wait(taken, seconds, STATELESS)
            case End():
                return self._end(taken, decided, now)
            case Send(command=command):
                return self._send(taken, source, rules, now, command, began)

    def _send(
        self, taken: Taken, source: PowerSource, rules: PowerRules, now: GuestNow, command: Command, began: float
    ) -> str:
        tasks = source.own_tasks(now.node, taken.vmid)
        known = None if isinstance(tasks, Unclear) else frozenset(task.upid for task in tasks)
        before = Before(now.status, now.uptime_s, now.pid, known)
        identity_at = self.clock()
        same = source.same_machine(now.node, taken.guest_type, taken.vmid, taken.fingerprint, now.name)
        if same is False:
            return self._end(taken, ANOTHER, now)
        if same is not True or self.clock() - began > READS_S:
            return self._wait(taken, SILENT_AGAIN_S, SLOW)
        with self.engine.begin() as connection:
            allowed = _permitted(connection, taken, rules)
            if not isinstance(allowed, Refusal):
                progress.note_sending(connection, taken, command, now.node, before)
        if isinstance(allowed, Refusal):
            return self._refused(taken, allowed)
        noted = replace(taken, sending_age_s=0.0, begun=True, command=command, node=now.node, before=before)
        if self.clock() - identity_at > IDENTITY_S:
            return self._end(noted, TOO_SLOW, now)
        return self._answered(noted, source.send(now.node, taken.guest_type, taken.vmid, command), now)

    def _answered(self, taken: Taken, reply: Reply, now: GuestNow) -> str:
        match reply:
            case Sent(upid=upid):
                with self.engine.begin() as connection:
                    progress.note_sent(connection, taken, upid)
            case NotSent(why=why):
                return self._end(taken, NOT_REACHED, now, said=why)
            case Rejected(why=why, final=True):
                return self._end(taken, NOT_ENTITLED, now, said=why)
            case Rejected(why=why):
                with self.engine.begin() as connection:
                    progress.note_rejected(connection, taken, why)
            case Lost():
                pass
        return self._wait(taken, conduct.POLL_S)

    # --- after the note

    def _follow(self, taken: Taken, source: PowerSource | None) -> str:
        """See what came of the command that was noted. Nothing is sent from here."""
        command, before, elapsed_s, node = taken.command, taken.before, taken.sending_age_s, taken.node
        if command is None or before is None or elapsed_s is None or node is None:
            raise TypeError("a command that was noted has all of these: the table says so")
        task = None
        if source is not None and taken.upid is not None:
            task = source.task(taken.upid)
            going_on = conduct.while_it_runs(command, None, elapsed_s)
            if isinstance(task, TaskRuns) and isinstance(going_on, Wait):
                return self._wait(taken, going_on.seconds)
        looked = None if source is None else source.look(node, taken.guest_type, taken.vmid)
        if source is None or not isinstance(looked, Found):
            silence = conduct.while_it_runs(command, None, elapsed_s)
            if isinstance(silence, Wait):
                return self._wait(taken, SILENT_AGAIN_S)
            lost = taken.upid is None
            return self._judged(taken, conduct.not_told() if lost else silence, None)
        now = looked.value
        if now.fingerprint != taken.fingerprint:
            return self._end(taken, ANOTHER_BY_NOW, now)
        if taken.upid is None:
            return self._searched(taken, source, command, before, now, elapsed_s, node)
        if isinstance(task, TaskEnded):
            verdict = conduct.after_task(command, task, before, now, elapsed_s)
            return self._judged(taken, verdict, now, said=task.said)
        if conduct.reached(command, before, now, elapsed_s):
            return self._judged(taken, Reached(f"the guest is {now.status}"), now)
        return self._judged(taken, conduct.while_it_runs(command, now, elapsed_s), now)

    def _searched(
        self, taken: Taken, source: PowerSource, command: Command, before: Before, now: GuestNow, elapsed_s: float,
        node: str,
    ) -> str:  # fmt: skip
        """The task of the command is not known: look for it where the command was sent to."""
        tasks = source.own_tasks(node, taken.vmid)
        listed = None if isinstance(tasks, Unclear) else tasks
        found = conduct.search(command, before, now, listed, elapsed_s, rejected=taken.rejected is not None)
        if not isinstance(found, Adopt):
            return self._judged(taken, found, now, said=taken.rejected)
        with self.engine.begin() as connection:
            progress.note_sent(connection, taken, found.upid)
            progress.put_back(connection, taken, 0.0)
        return "its task was found"

    def _judged(
        self, taken: Taken, verdict: Reached | Wait | End, now: GuestNow | None, said: str | None = None
    ) -> str:
        match verdict:
            case Wait(seconds=seconds):
                return self._wait(taken, seconds)
            case End():
                return self._end(taken, verdict, now, said=said)
            case Reached(how=how):
                commands = commands_of(taken.action, taken.guest_type, force=taken.force)
                if taken.step + 1 == len(commands):
                    return self._end(taken, End(State.DONE, "done", _DONE[taken.action]), now, said=said, how=how)
                if taken.upid is None:
                    return self._end(taken, NOT_OURS, now, said=said, how=how)
                with self.engine.begin() as connection:
                    progress.next_step(connection, taken)
                return f"{taken.command} is done, next is {commands[taken.step + 1]}"

    # --- the ends of a step

    def _refused(self, taken: Taken, refusal: Refusal) -> str:
        if refusal.passing:
            return self._wait(taken, AGAIN_S, refusal.message)
        return self._end(taken, End(State.REFUSED, refusal.code, refusal.message))

    def _wait(self, taken: Taken, seconds: float, reason: str | None = None) -> str:
        with self.engine.begin() as connection:
            progress.put_back(connection, taken, seconds, reason)
        return f"looked at again in {seconds:g} s"

    def _end(
        self, taken: Taken, ended: End, now: GuestNow | None = None, *, said: str | None = None, how: str | None = None
    ) -> str:
        evidence: dict[str, Any] = {"said": said, "seen": how}
        if now is not None:
            evidence |= {"node": now.node, "status": now.status, "lock": now.lock, "ha": now.ha}
        ended = _told_whole(taken, ended)
        with self.engine.begin() as connection:
            progress.end(connection, taken, ended, {name: told for name, told in evidence.items() if told is not None})
        return f"{ended.state}: {ended.code}"


_DONE = {
    Action.START: "The machine runs",
    Action.STOP: "The machine is stopped",
    Action.REBOOT: "The machine was restarted and runs",
    Action.RESTART: "The machine was reset and runs",
}


def _permitted(connection: Connection, taken: Taken, rules: PowerRules) -> Target | Refusal:
    """The rules once more, and whether the record still has the machine that the action was asked for."""
    allowed = permitted(connection, taken.vps_id, taken.user_id, rules)
    asked = (taken.cluster, taken.vmid, taken.guest_type, taken.fingerprint)
    if (
        isinstance(allowed, Target)
        and (allowed.cluster, allowed.vmid, allowed.guest_type, allowed.fingerprint) != asked
    ):
        return Refusal("another_machine", "This VPS has got another machine since. Nothing was sent")
    return allowed


def _expired(taken: Taken) -> End:
    why = f" ({taken.waits_for})" if taken.waits_for is not None else ""
    return End(State.FAILED, "expired", f"It could not be begun in time{why}. Nothing was sent; ask for it again")


def _told_whole(taken: Taken, ended: End) -> End:
    """The end of a restart of a container that was stopped already. Whatever stood against its start, its customer must
    know that it is stopped now."""
    if taken.step == 0:
        return ended
    if ended.state is State.DONE:
        return End(State.DONE, "done", _DONE[taken.action])
    state = State.UNKNOWN if ended.state is State.UNKNOWN else State.FAILED
    return End(state, ended.code, conduct.HALFWAY + ended.reason)
