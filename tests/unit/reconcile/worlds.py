"""Values that agree with each other, so that a case spells out only what differs. NOW is any fixed moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from domain.absences import Absence
from domain.changes import Change, Delete
from domain.confirmations import Confirmation
from domain.guests import FingerprintState, Guest, GuestKey, GuestType, PowerState
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from reconcile.decision.cases import Policy, World

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
POLICY = Policy()
KEY = GuestKey("main", 100)


def ago(**duration: float) -> datetime:
    """A moment before NOW."""
    return NOW - timedelta(**duration)


def order(**values: Any) -> Order:
    """An active order of customer 5, known for long, read five seconds ago."""
    kept: dict[str, Any] = {
            "order_id": "1", "state": OrderState.ACTIVE, "status": "running", "owner": "1", "user_id": 5,
            "name": "web", "cpu": 2, "ram_mb": 4096, "disk_gb": 50, "os": "Debian", "hypervisor": "proxmox",
            "cluster": "main", "node": "pve1", "vmid": 100, "guest_type": GuestType.QEMU,
            "created_at": ago(days=30), "effective_at": ago(seconds=5), "first_seen_at": ago(days=20),
            "state_since": ago(days=20), "owner_since": ago(days=20),
            "mapped_at": ago(days=20), "guest_since": ago(hours=1),
    }  # fmt: skip
    return Order(**kept | values)


def guest(**values: Any) -> Guest:
    """A running, identified guest, read ten seconds ago and two minutes before that."""
    kept: dict[str, Any] = {
            "cluster": "main", "vmid": 100, "guest_type": GuestType.QEMU, "node": "pve1", "status": "running",
            "power": PowerState.RUNNING, "name": "web", "cores": 2.0, "memory_mb": 4096, "disk_gb": 50,
            "fingerprint": "smbios:a", "fingerprint_state": FingerprintState.READ, "read_at": ago(seconds=10),
            "first_seen_at": ago(days=20), "previous_read_at": ago(seconds=130), "fingerprint_seen": 2,
            "fingerprint_since": ago(days=20),
    }  # fmt: skip
    return Guest(**kept | values)


def record(**values: Any) -> Record:
    """The record of that order and that guest, unchanged for ten days."""
    kept: dict[str, Any] = {
            "id": 1, "user_id": 5, "name": "web", "cpu": 2, "ram_mb": 4096, "disk_gb": 50, "os": "Debian",
            "hypervisor": "proxmox", "version": 3, "order_state": OrderState.ACTIVE, "power_state": PowerState.RUNNING,
            "created_at": ago(days=20), "order_changed_at": ago(days=10), "power_changed_at": ago(days=10),
            "owner_changed_at": ago(days=10), "plan_changed_at": ago(days=10), "link_changed_at": ago(days=10),
            "link_state": LinkState.VERIFIED, "order_id": "1", "cluster": "main", "node": "pve1", "vmid": 100,
            "guest_type": GuestType.QEMU, "fingerprint": "smbios:a", "order_linked_once": True,
            "guest_linked_once": True,
    }  # fmt: skip
    return Record(**kept | values)


UNLINKED: dict[str, Any] = {
    "link_state": LinkState.UNLINKED, "cluster": None, "node": None, "vmid": None, "guest_type": None,
    "fingerprint": None, "guest_linked_once": False,
}  # fmt: skip
"""The link columns of a record without a guest."""

LOOSE: dict[str, Any] = UNLINKED | {"order_id": None, "order_linked_once": False}
"""The same of a record that no order was ever linked with either."""


def world(**values: Any) -> World:
    """One trusted cluster and a feed whose last two sweeps were complete."""
    kept: dict[str, Any] = {
            "now": NOW, "clusters": frozenset({"main"}), "trusted": frozenset({"main"}),
            "orders_at": ago(seconds=5), "previous_orders_at": ago(seconds=125),
    }  # fmt: skip
    return World(**kept | values)


def absence(times: int = 3, *, minutes: float = 20, hours: float = 0) -> Absence:
    """Absent so often, since so long, last seen absent ten seconds ago."""
    since = ago(minutes=minutes, hours=hours)
    return Absence(since, times, ago(seconds=10), tuple(range(times)))


def questions(change: Change) -> tuple[type[Confirmation], ...]:
    """What is asked just before a change is written, in order."""
    return tuple(type(asked) for asked in change.confirm)


def asks(change: Change) -> str | None:
    """Why an operator must approve a change by itself."""
    return change.asks if isinstance(change, Delete) else None
