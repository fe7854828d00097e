"""What statistics need of a Proxmox cluster, as a Protocol. The adapter is ``sources.proxmox.statistics``. It only
reads, and a fault of the cluster is a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from domain.guests import GuestType
from domain.statistics.measurements import Point, Timeframe


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured under a VMID while this machine had it, and perhaps another one before. ``points``: oldest
    first. ``now``: when it was answered, in Unix time by the cluster's clock, which also stamps the points."""

    points: tuple[Point, ...]
    now: float


@dataclass(frozen=True, slots=True)
class AnotherMachine:
    """Another machine than the one that was asked for stands there by now."""


@dataclass(frozen=True, slots=True)
class NotRead:
    """Nothing can be told. ``silent``: node or cluster do not answer, so the next question would hang, too."""

    why: str
    silent: bool


class StatisticsSource(Protocol):
    """One Proxmox cluster, for statistics."""

    def measurements(
        self, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None, timeframe: Timeframe
    ) -> Measurements | AnotherMachine | NotRead:
        """What was measured of the guest, asked of its node or of the one it has moved to. Its identity is read before
        and after. A container must have this name, too, if one is known."""
        ...
