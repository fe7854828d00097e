"""What power actions need of a Proxmox cluster, as a Protocol. The adapter is ``sources.proxmox.power``.

No method raises for a fault of the cluster: each fault is a value. ``send`` alone changes anything, and nothing below
this Protocol ever sends a request a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from domain.guests import GuestType
from domain.power.actions import Command, GuestNow
from domain.source_protocols import Lookup, Unclear


@dataclass(frozen=True, slots=True)
class Sent:
    """Proxmox took the request and named its task."""

    upid: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Proxmox answered that it does not do it. ``final``: nothing can have begun. Otherwise a look must tell."""

    why: str
    final: bool


@dataclass(frozen=True, slots=True)
class NotSent:
    """No connection was made, so nothing was asked."""

    why: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The request may have arrived or not."""

    why: str


Reply = Sent | Rejected | NotSent | Lost


@dataclass(frozen=True, slots=True)
class TaskRuns:
    """The task is not over."""


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """The task is over. ``ok``: Proxmox calls it a success, with or without warnings. ``said``: its own words, for
    operators."""

    ok: bool
    said: str


TaskState = TaskRuns | TaskEnded | Unclear


@dataclass(frozen=True, slots=True)
class OwnTask:
    """A task that this token began for a guest. ``kind``: Proxmox's word, such as ``qmstart``."""

    upid: str
    kind: str


class PowerSource(Protocol):
    """One Proxmox cluster, for power actions."""

    @property
    def cluster(self) -> str: ...

    def look(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestNow]:
        """The guest now, on its node or on the one that it has moved to. Never ``Gone``. ``Unclear`` without quorum."""
        ...

    def same_machine(
        self, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None
    ) -> bool | Unclear:
        """Read the configuration on exactly this node once more: is it the machine with this fingerprint? A
        container, which is known by a MAC alone, must have this name, too."""
        ...

    def own_tasks(self, node: str, vmid: int) -> tuple[OwnTask, ...] | Unclear:
        """The latest tasks of this token for the guest on the node, those that run among them."""
        ...

    def send(self, node: str, guest_type: GuestType, vmid: int, command: Command) -> Reply:
        """Send the command once, through one endpoint."""
        ...

    def task(self, upid: str) -> TaskState:
        """How far a task has come."""
        ...
