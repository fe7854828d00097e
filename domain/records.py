"""A record: what the client sees of one VPS in this panel. Standard library only, no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.guests import GuestKey, GuestType, PowerState
from domain.orders import OrderState

STALE_AFTER = timedelta(minutes=10)
"""A power state that nothing confirmed for so long is stale. Twice as long as Proxmox may cache a status; a healthy
panel confirms every two minutes."""


class LinkState(StrEnum):
    """How sure the panel is which guest belongs to a record."""

    UNLINKED = "unlinked"
    PUSHED = "pushed"  # a sync call named (cluster, vmid); the guest's fingerprint was not read yet
    VERIFIED = "verified"  # the fingerprint comes from the guest's own configuration
    UNVERIFIED = "unverified"  # the fingerprint cannot be read: power and delete are refused
    CONFLICT = "conflict"  # the pushed link belongs to another live record


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
    ip6_address: str | None = None
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
        """A guest that a call named while another live record had it. It is not this record's until a run says so."""
        if self.claimed_cluster is None or self.claimed_vmid is None:
            return None
        return GuestKey(self.claimed_cluster, self.claimed_vmid)


def status_of(order_state: OrderState, power_state: PowerState, missing: bool) -> str:
    """The status a client sees: a pure function of the stored facts. Suspended wins.

    ``missing``: the order is paid, but its guest was proven absent for longer than its grace.
    """
    if order_state is OrderState.SUSPENDED:
        return "suspended"
    if missing:
        return "error"
    if order_state is OrderState.PENDING or power_state is PowerState.UNKNOWN:
        return "creating"
    return power_state.value
