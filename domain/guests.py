"""A guest: what exists on Proxmox, and the words for it. Standard library only, no I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class PowerState(StrEnum):
    """What Proxmox says of a guest. ``UNKNOWN`` is never written over a known state."""

    RUNNING = "running"
    STOPPED = "stopped"
    ERROR = "error"
    UNKNOWN = "unknown"


class GuestType(StrEnum):
    """Proxmox's two kinds of guest."""

    QEMU = "qemu"
    LXC = "lxc"


class FingerprintState(StrEnum):
    """How current the panel's knowledge of a guest's fingerprint is."""

    UNREAD = "unread"
    READ = "read"
    STALE = "stale"  # it may be another machine since the last read: nothing is written before the next one
    FORBIDDEN = "forbidden"  # Proxmox answered 403 on the configuration


@dataclass(frozen=True, slots=True)
class GuestKey:
    """Where a guest is addressed. VMIDs are reused, so a key alone never proves identity."""

    cluster: str
    vmid: int

    def __str__(self) -> str:
        return f"{self.cluster}/{self.vmid}"


@dataclass(frozen=True, slots=True)
class ListedGuest:
    """One guest as a cluster's list shows it."""

    cluster: str
    vmid: int
    guest_type: GuestType
    node: str
    status: str  # Proxmox's own word
    power: PowerState
    name: str | None = None
    lock: str | None = None
    template: bool = False
    cores: float | None = None
    memory_mb: int | None = None
    disk_gb: int | None = None
    tags: tuple[str, ...] = ()
    uptime_s: float | None = None  # of its process; None: not running, or the list does not say

    @property
    def key(self) -> GuestKey:
        return GuestKey(self.cluster, self.vmid)


@dataclass(frozen=True, slots=True)
class Guest(ListedGuest):
    """One guest as the panel knows it: as it was listed, with its fingerprint once its configuration was read."""

    fingerprint: str | None = None
    fingerprint_state: FingerprintState = FingerprintState.UNREAD
    ip_address: str | None = None
    read_at: datetime | None = None  # when the read that listed it began (database clock)
    first_seen_at: datetime | None = None  # since when this machine is known to stand there
    previous_read_at: datetime | None = None  # an earlier trusted read that showed the same power state
    fingerprint_seen: int = 1  # how many reads in a row gave this fingerprint
    fingerprint_since: datetime | None = None  # when this fingerprint was first read; None: not known
    lock_since: datetime | None = None
    power_since: datetime | None = None  # the first read that showed this power state
    changed_at: datetime | None = None  # the last read that showed something new
    moving_since: datetime | None = None  # since when another cluster lists the same fingerprint
    fingerprint_read_at: datetime | None = None  # the last read of its configuration
    fingerprint_tried_at: datetime | None = None  # the last attempt to read it that gave nothing to keep
    doubt: str | None = None  # why its identity is in doubt: a domain.identity_doubts.Doubt
    doubted_at: datetime | None = None  # since when

    @property
    def marks(self) -> tuple[str, ...]:
        """Its identity tags: usually none, at most one is right."""
        return identity_tags(self.tags)


IDENTITY_TAG = r"^pnl-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
"""An operator gives such a tag to exactly one guest. PostgreSQL reads the same expression."""


def identity_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The identity tags among these, sorted. Proxmox copies tags to clones, so two guests may carry the same one."""
    return tuple(sorted({tag for tag in tags if re.fullmatch(IDENTITY_TAG, tag)}))


def power_of(guest_type: GuestType, status: str) -> PowerState:
    """Map Proxmox's status word to a power state. An unlisted word becomes ``UNKNOWN``, and nothing is written.

    A hibernated guest is ``stopped`` with lock ``suspended``. QEMU's ``suspended`` is a paused CPU and has
    nothing to do with an order that is suspended for non-payment.
    """
    if guest_type is GuestType.LXC:
        return {"running": PowerState.RUNNING, "stopped": PowerState.STOPPED}.get(status, PowerState.UNKNOWN)
    return _QEMU_POWER.get(status, PowerState.UNKNOWN)


_QEMU_POWER = {
    "running": PowerState.RUNNING,
    "stopped": PowerState.STOPPED,
    "paused": PowerState.STOPPED,
    "prelaunch": PowerState.STOPPED,
    "suspended": PowerState.STOPPED,
    "io-error": PowerState.ERROR,
    "internal-error": PowerState.ERROR,
    "guest-panicked": PowerState.ERROR,
}
