"""The values that reconciliation speaks in. Pure: standard library only, no I/O, no clock.

Three views of every VPS: the *order* (what the main site sold), the *guest* (what exists on Proxmox) and
the *record* (what the client sees in this panel).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class OrderState(StrEnum):
    """What the main site says of an order; also a fact stored on a record."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"
    UNKNOWN = "unknown"  # an unrecognised word of the feed: changes nothing, is shown


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


class LinkState(StrEnum):
    """How sure the panel is which guest a record speaks of."""

    UNLINKED = "unlinked"
    PUSHED = "pushed"  # (cluster, vmid) came with a sync call; the guest's fingerprint was not read yet
    VERIFIED = "verified"  # the fingerprint was read from the guest's own configuration
    UNVERIFIED = "unverified"  # the fingerprint cannot be read: power and delete are refused
    CONFLICT = "conflict"  # the pushed link belongs to another live record


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
class Order:
    """One order as a feed showed it. ``None`` means the feed does not say: unknown, never drift.

    ``owner`` is the main site's own user id; ``user_id`` the panel's, set once the user map was consulted.
    ``effective_at`` is the moment (database clock) from which the values are known to be true.
    """

    order_id: str
    state: OrderState
    status: str  # the feed's own word
    owner: str | None = None
    user_id: int | None = None
    panel_vps_id: int | None = None
    name: str | None = None
    cpu: int | None = None  # cores
    ram_mb: int | None = None
    disk_gb: int | None = None
    os: str | None = None
    hypervisor: str | None = None
    ip_address: str | None = None
    cluster: str | None = None
    node: str | None = None
    vmid: int | None = None
    guest_type: GuestType | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    effective_at: datetime | None = None  # None: the feed gave no usable as_of, so nothing may be written
    first_seen_at: datetime | None = None
    state_since: datetime | None = None  # since when the panel has seen this state
    owner_since: datetime | None = None  # since when the panel has seen this owner
    guest_since: datetime | None = None  # since which read it names that guest
    mapped_at: datetime | None = None  # since when that owner is the panel's ``user_id``
    panel_vps_id_given: bool = True  # False: this feed cannot name panel ids (absence of one means nothing)

    @property
    def guest_key(self) -> GuestKey | None:
        if self.cluster is None or self.vmid is None:
            return None
        return GuestKey(self.cluster, self.vmid)


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
    doubt: str | None = None  # why its identity is in doubt: a reconcile.doubts.Doubt
    doubted_at: datetime | None = None  # since when

    @property
    def key(self) -> GuestKey:
        return GuestKey(self.cluster, self.vmid)

    @property
    def marks(self) -> tuple[str, ...]:
        """Its identity tags: mostly none, at best one."""
        return identity_tags(self.tags)


@dataclass(frozen=True, slots=True)
class Record:
    """One VPS record of the panel, tombstones included. All times are the database's clock."""

    id: int
    user_id: int
    name: str
    cpu: int
    ram_mb: int
    disk_gb: int
    os: str
    hypervisor: str
    version: int
    order_state: OrderState
    power_state: PowerState
    created_at: datetime
    order_changed_at: datetime
    power_changed_at: datetime
    owner_changed_at: datetime
    plan_changed_at: datetime
    link_changed_at: datetime
    link_state: LinkState = LinkState.UNLINKED
    order_id: str | None = None
    cluster: str | None = None
    node: str | None = None
    vmid: int | None = None
    guest_type: GuestType | None = None
    fingerprint: str | None = None
    claimed_cluster: str | None = None
    claimed_vmid: int | None = None
    ip_address: str | None = None
    power_source: str = "sync"
    last_sync_at: datetime | None = None  # last accepted sync call that named this id
    last_update_at: datetime | None = None  # last accepted sync *update* by this id
    missing_since: datetime | None = None
    deleted_at: datetime | None = None
    merged_into: int | None = None
    protected_until: datetime | None = None
    order_linked_once: bool = False
    guest_linked_once: bool = False
    in_flight: bool = False  # an accepted call for it is not applied yet

    @property
    def live(self) -> bool:
        return self.deleted_at is None

    @property
    def guest_key(self) -> GuestKey | None:
        if self.cluster is None or self.vmid is None:
            return None
        return GuestKey(self.cluster, self.vmid)

    @property
    def claimed_key(self) -> GuestKey | None:
        """The guest that a call named for it while another live record had that: not its own before a run says so."""
        if self.claimed_cluster is None or self.claimed_vmid is None:
            return None
        return GuestKey(self.claimed_cluster, self.claimed_vmid)


@dataclass(frozen=True, slots=True)
class User:
    """One user as the main site's feed showed it."""

    main_site_user_id: str
    username: str
    email: str | None = None
    email_verified: bool = False
    panel_user_id: int | None = None


@dataclass(frozen=True, slots=True)
class Absence:
    """How long and how often something was absent from complete snapshots of its scope."""

    absent_since: datetime
    consecutive: int
    last_seen_absent_at: datetime
    evidence: tuple[int, ...] = ()  # snapshot ids, oldest first


IDENTITY_TAG = r"^pnl-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
"""A tag that an operator gave one guest and no other; PostgreSQL reads the same expression."""


def identity_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Those of a guest's tags that say who it is, in order; Proxmox copies them to its clones."""
    return tuple(sorted({tag for tag in tags if re.fullmatch(IDENTITY_TAG, tag)}))


def order_state_of(status: str) -> OrderState:
    """Map the main site's order status to a state; any other word is UNKNOWN and changes nothing."""
    return _ORDER_STATES.get(status, OrderState.UNKNOWN)


_ORDER_STATES = {
    "creating": OrderState.PENDING,
    "pending": OrderState.PENDING,
    "running": OrderState.ACTIVE,
    "stopped": OrderState.ACTIVE,
    "error": OrderState.ACTIVE,
    "active": OrderState.ACTIVE,
    "suspended": OrderState.SUSPENDED,
    "cancelled": OrderState.ENDED,
}


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


def status_of(order_state: OrderState, power_state: PowerState, missing: bool) -> str:
    """The status a client sees: a pure function of the stored facts. Suspended wins.

    ``missing`` says that the order is paid but its guest was proven absent for longer than its grace.
    """
    if order_state is OrderState.SUSPENDED:
        return "suspended"
    if missing:
        return "error"
    if order_state is OrderState.PENDING or power_state is PowerState.UNKNOWN:
        return "creating"
    return power_state.value
