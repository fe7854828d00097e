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
    STALE = "stale"  # the bulk signature changed since it was read: no writes before a new read
    FORBIDDEN = "forbidden"  # Proxmox answered 403 on the configuration


@dataclass(frozen=True, slots=True)
class GuestKey:
    """Where a guest is addressed. VMIDs are reused, so a key alone never proves identity."""

    cluster: str
    vmid: int

    def __str__(self) -> str:
        return f"{self.cluster}/{self.vmid}"


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest as Proxmox listed it, with the fingerprint when it was read from its configuration."""

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
    fingerprint: str | None = None
    fingerprint_state: FingerprintState = FingerprintState.UNREAD
    ip_address: str | None = None
    read_at: datetime | None = None  # when the read that showed it began (database clock)
    first_seen_at: datetime | None = None
    previous_read_at: datetime | None = None  # an earlier trusted read that showed the same power state
    fingerprint_seen: int = 1  # consecutive observations with this fingerprint
    fingerprint_since: datetime | None = None  # when it was read first; None: nobody knows
    lock_since: datetime | None = None
    power_since: datetime | None = None  # since which read it has shown this power state
    changed_at: datetime | None = None  # which read last told something new of it
    moving_since: datetime | None = None  # since when its fingerprint is listed in another cluster, too
    uptime_s: float | None = None  # of its process, as listed; None: none is running, or the list does not say
    fingerprint_read_at: datetime | None = None  # when its configuration was read last
    fingerprint_tried_at: datetime | None = None  # when it was asked for last and nothing could be kept
    doubt: str | None = None  # why its identity is in doubt: a domain.identity_doubts.Doubt
    doubted_at: datetime | None = None  # since when

    @property
    def key(self) -> GuestKey:
        return GuestKey(self.cluster, self.vmid)

    @property
    def marks(self) -> tuple[str, ...]:
        """Its identity tags: mostly none, at best one."""
        return identity_tags(self.tags)


IDENTITY_TAG = r"^pnl-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
"""A tag that an operator gave one guest and no other; PostgreSQL reads the same expression."""


def identity_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Those of a guest's tags that say who it is, in order; Proxmox copies them to its clones."""
    return tuple(sorted({tag for tag in tags if re.fullmatch(IDENTITY_TAG, tag)}))


def power_of(guest_type: GuestType, status: str, lock: str | None) -> PowerState:
    """Map Proxmox's open-ended status words to a power state; what is not listed writes nothing.

    A hibernated guest is ``stopped`` with lock ``suspended``. QEMU's ``suspended`` is a paused CPU and has
    nothing to do with an order that is suspended for non-payment.
    """
    del lock  # hibernation already reads "stopped"
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
