"""A cluster in memory that takes power commands, with the quirks of a real one: HA, locks, lost answers, late failures,
guests that are replaced between two questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from domain.guests import GuestType, PowerState
from domain.power.actions import Command, GuestNow
from domain.power.port import Lost, OwnTask, Reply, Sent, TaskEnded, TaskState
from domain.source_protocols import Found, Lookup, Unclear
from tests.support.fleets.switchable import FINGERPRINT

OK = TaskEnded(ok=True, said="OK")
RUNNING = {"power": PowerState.RUNNING, "status": "running"}
STOPPED = {"power": PowerState.STOPPED, "status": "stopped"}


def upid(number: int, kind: str, vmid: int = 100, node: str = "pve1") -> str:
    return f"UPID:{node}:{number:08X}:{number:08X}:{number:08X}:{kind}:{vmid}:panel@pve!sync:"


@dataclass(slots=True)
class PowerCluster:
    """``guest`` None: the cluster does not answer. ``sent``: each command that arrived, with its node. ``then``: what a
    command does to the guest; None: nothing. ``reply``: what is answered instead of the task's name. ``before_note``:
    called when the identity is read for the last time. ``kind``: the name of its tasks, such as ``hastart``."""

    cluster: str = "main"
    guest: GuestNow | None = field(
        default_factory=lambda: GuestNow("pve1", FINGERPRINT, PowerState.RUNNING, "running", uptime_s=5000, pid=77)
    )
    sent: list[tuple[str, Command]] = field(default_factory=list)
    tasks: list[OwnTask] = field(default_factory=list)
    states: dict[str, TaskState] = field(default_factory=dict)
    state: TaskState = OK
    reply: Reply | None = None
    begins: bool = True
    takes_effect: bool = True
    lists_tasks: bool = True
    kind: str | None = None
    before_note: Callable[[], None] = lambda: None
    asked: list[str] = field(default_factory=list)

    def change(self, **values: object) -> None:
        assert self.guest is not None
        self.guest = replace(self.guest, **values)  # type: ignore[arg-type]  # the fields of a guest

    def look(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestNow]:
        del node, guest_type, vmid
        self.asked.append("look")
        return Unclear("the node cannot be reached (596)") if self.guest is None else Found(self.guest)

    def same_machine(
        self, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None
    ) -> bool | Unclear:
        del node, vmid
        self.asked.append("same")
        self.before_note()
        if self.guest is None:
            return Unclear("596")
        return self.guest.fingerprint == fingerprint and (guest_type is GuestType.QEMU or self.guest.name == name)

    def own_tasks(self, node: str, vmid: int) -> tuple[OwnTask, ...] | Unclear:
        del vmid
        self.asked.append(f"tasks {node}")
        return tuple(self.tasks) if self.lists_tasks else Unclear("403")

    def send(self, node: str, guest_type: GuestType, vmid: int, command: Command) -> Reply:
        self.sent.append((node, command))
        name = upid(len(self.sent), self.kind or f"{'qm' if guest_type is GuestType.QEMU else 'vz'}{command}", vmid)
        if self.begins:
            self.tasks.append(OwnTask(name, name.split(":")[5]))
            self.states[name] = self.state
            if self.takes_effect:
                self.effect(command)
        return self.reply or Sent(name)

    def effect(self, command: Command) -> None:
        """The guest does what it is told."""
        match command:
            case Command.START:
                self.change(**RUNNING, pid=78, uptime_s=1)
            case Command.STOP | Command.SHUTDOWN:
                self.change(**STOPPED, pid=None, uptime_s=None)
            case Command.REBOOT:
                self.change(**RUNNING, pid=79, uptime_s=1)
            case Command.RESET:
                pass

    def task(self, upid: str) -> TaskState:
        self.asked.append("task")
        return self.states.get(upid, Unclear("no such task"))


LOST = Lost("no answer within 10 s")
