"""Power commands to a Proxmox VE cluster, as a ``PowerSource``. The only module that asks Proxmox to change anything.

A command is one POST through one endpoint. It is never repeated here: if its answer is lost, the caller looks at the
guest and at the tasks of this token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from domain.guests import GuestType, power_of
from domain.power.actions import SHUTDOWN_S, Command, GuestNow
from domain.power.port import Lost, NotSent, OwnTask, Rejected, Reply, Sent, TaskEnded, TaskRuns, TaskState
from domain.source_protocols import Found, Lookup, Unclear
from sources.json_client import segment
from sources.outgoing.faults import Malformed, SourceFault, Unreachable
from sources.proxmox.cluster import ClusterSource, look_up
from sources.proxmox.endpoint import (
    CircuitOpen,
    ConfigMissing,
    Forbidden,
    Session,
    Transient,
    Unauthorized,
    said_by,
)
from sources.proxmox.identity import is_same, require_quorum

UPID = re.compile(
    r"UPID:(?P<node>[A-Za-z0-9.-]{1,100}):[0-9A-F]{8,9}:[0-9A-F]{8,9}:[0-9A-F]{8,9}"
    r":(?P<kind>[a-z]{1,40}):(?P<vmid>[0-9]{1,9}):(?P<user>[^:\s]{1,200}):"
)
"""The name of a task of a guest. A token's tasks name the token as their user."""

TASKS = 50
"""How many of a guest's latest tasks are listed."""

FORMS: Mapping[Command, Mapping[str, str]] = {
    Command.SHUTDOWN: {"timeout": str(SHUTDOWN_S), "forceStop": "0"},
    Command.REBOOT: {"timeout": str(SHUTDOWN_S)},
}
"""What is sent with a command. Without a limit, Proxmox chooses how long it waits for the guest."""

T = TypeVar("T")


class ClusterPower:
    """Power commands of one cluster."""

    def __init__(self, source: ClusterSource) -> None:
        self._source = source

    @property
    def cluster(self) -> str:
        return self._source.cluster

    def look(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestNow]:
        """Identity and state of the guest, on the node where it is now, of a cluster with quorum."""
        return self._asked(lambda session: _look(session, node, guest_type, vmid))

    def same_machine(
        self, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None
    ) -> bool | Unclear:
        """Whether the configuration on exactly this node has this fingerprint now, in a cluster with quorum. A
        container must have this name, too."""
        return self._asked(lambda session: is_same(session, node, guest_type, vmid, fingerprint, name))

    def own_tasks(self, node: str, vmid: int) -> tuple[OwnTask, ...] | Unclear:
        """The latest tasks that this token began for the guest on the node."""
        return self._asked(lambda session: own_tasks_of(session.tasks(node, vmid, TASKS), self._source.token_id, vmid))

    def send(self, node: str, guest_type: GuestType, vmid: int, command: Command) -> Reply:
        """POST the command, once."""
        path = f"/nodes/{segment(node)}/{guest_type}/{vmid}/status/{command}"
        try:
            data = self._source.tell_once(lambda session: session.post(path, FORMS.get(command, {})))
        except (CircuitOpen, Unreachable) as fault:
            return NotSent(str(fault))
        except (Unauthorized, Forbidden) as fault:
            return Rejected(str(fault), final=True)
        except (ConfigMissing, Transient) as fault:
            return Rejected(str(fault), final=False)
        except SourceFault as fault:
            return Lost(str(fault))
        if not isinstance(data, str) or UPID.fullmatch(data) is None:
            return Lost(f"POST {path} was answered without the name of a task")
        return Sent(data)

    def task(self, upid: str) -> TaskState:
        """The task's status, from the node that works on it."""
        named = UPID.fullmatch(upid)
        if named is None:
            return Unclear("not the name of a task")
        return self._asked(lambda session: task_state_of(session.task_status(named["node"], upid)))

    def close(self) -> None:
        """Close the connections."""
        self._source.close()

    def _asked(self, work: Callable[[Session], T]) -> T | Unclear:
        try:
            return self._source.ask(work)
        except SourceFault as fault:
            return Unclear(str(fault))


def _look(session: Session, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestNow]:
    require_quorum(session)
    found = look_up(session, node, guest_type, vmid)
    if not isinstance(found, Found):
        return found
    config = found.value
    if config.forbidden:
        return Unclear(f"the configuration of guest {vmid} is forbidden to the token")
    now = guest_now(config.node, guest_type, vmid, config.fingerprint, session.status(config.node, guest_type, vmid))
    return Found(replace(now, name=config.name))


def guest_now(
    node: str, guest_type: GuestType, vmid: int, fingerprint: str | None, data: Mapping[str, object]
) -> GuestNow:
    """Read ``status/current``. Raises ``Malformed``. QEMU's own word counts: a process may be paused."""
    status, inner, ha = data.get("status"), data.get("qmpstatus"), data.get("ha")
    if not isinstance(status, str) or not status.isprintable() or data.get("vmid", vmid) not in (vmid, str(vmid)):
        raise Malformed(f"the status of guest {vmid} cannot be read")
    if guest_type is GuestType.QEMU and status == "running" and isinstance(inner, str) and inner.isprintable():
        status = inner
    lock = data.get("lock")
    return GuestNow(
        node=node,
        fingerprint=fingerprint,
        power=power_of(guest_type, status),
        status=status[:40],
        lock=lock[:40] if isinstance(lock, str) and lock else None,
        ha=isinstance(ha, dict) and ha.get("managed") in (1, True, "1"),
        template=data.get("template") in (1, True, "1"),
        uptime_s=_count(data.get("uptime")),
        pid=_count(data.get("pid")),
    )


def own_tasks_of(data: list[object], token_id: str, vmid: int) -> tuple[OwnTask, ...]:
    """The entries of a list of tasks that are this token's and this guest's."""
    upids = [entry.get("upid") for entry in data if isinstance(entry, dict)]
    named = [UPID.fullmatch(upid) for upid in upids if isinstance(upid, str)]
    return tuple(
        OwnTask(found[0], found["kind"])
        for found in named
        if found is not None and found["user"] == token_id and found["vmid"] == str(vmid)
    )


def task_state_of(data: Mapping[str, object]) -> TaskState:
    """Read the status of a task. Warnings are a success; a task of which Proxmox itself does not know how it ended is
    unclear."""
    status, said = data.get("status"), data.get("exitstatus")
    if status == "running":
        return TaskRuns()
    if status != "stopped" or not isinstance(said, str) or not said or said == "unexpected status":
        return Unclear("Proxmox does not say how the task ended")
    return TaskEnded(ok=said == "OK" or re.fullmatch(r"WARNINGS: \d+", said) is not None, said=said_by(said))


def _count(value: object) -> int | None:
    """A positive whole number; None for anything else, and for 0, which stands for "none" here."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < 2**53 else None
