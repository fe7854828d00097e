"""An order: what the main site sold, and its words for it. Standard library only, no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from domain.guests import Guest, GuestKey, GuestType


class OrderState(StrEnum):
    """What the main site says of an order; also a fact stored on a record."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"
    UNKNOWN = "unknown"  # an unrecognised word of the feed: changes nothing, is shown


@dataclass(frozen=True, slots=True)
class Order:
    """One order as a feed showed it. ``None`` means that the feed does not say: unknown, never drift.

    ``owner`` is the main site's user id. ``user_id`` is the panel's, set after a look-up in the user map.
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
    ip6_address: str | None = None
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
    guest_since: datetime | None = None  # since when it names that guest
    mapped_at: datetime | None = None  # since when that owner maps to ``user_id``
    panel_vps_id_given: bool = True  # False: this feed cannot name panel ids, so a missing one means nothing

    @property
    def guest_key(self) -> GuestKey | None:
        if self.cluster is None or self.vmid is None:
            return None
        return GuestKey(self.cluster, self.vmid)


def may_be_on_proxmox(order: Order) -> bool:
    """Whether its machine may be a Proxmox guest. Main sites have words of their own for Proxmox: ``kvm``."""
    return order.hypervisor not in NEVER_PROXMOX


NEVER_PROXMOX = frozenset({"vmware", "hyperv", "xen"})
"""Hypervisors that no main site calls Proxmox by. ``panel.observations.left_out`` has the same rule in SQL."""


def fits_type(order: Order, guest: Guest) -> bool:
    """Whether a guest is of the type that the order sold, or the order does not say."""
    return order.guest_type in (None, guest.guest_type)


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
