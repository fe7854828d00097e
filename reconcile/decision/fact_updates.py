"""Which facts of a record differ from what was observed, and may be written now. Pure.

A source may change a fact of a record only if it was read after the record's last accepted change of that fact. A
power state that a call pushed also gets a grace. "running -> stopped" needs two such reads, both of the guest that the
record is linked to now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from domain.guests import FingerprintState, Guest, PowerState
from domain.orders import Order, OrderState
from domain.record_columns import DRIFTING
from domain.records import LinkState, Record
from reconcile.decision.cases import Policy, World


@dataclass(frozen=True, slots=True)
class FactUpdate:
    """Columns to write, a sentence why, and the evidence (JSON-ready)."""

    values: dict[str, Any]
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)
    flip: str | None = None


def _fresh(read: datetime | None, changed: datetime, grace: timedelta = timedelta(0)) -> bool:
    return read is not None and read > changed + grace


def order_state_update(order: Order, record: Record, world: World) -> FactUpdate | None:
    """The order is suspended, active again, or ended, and the record does not say so."""
    if order.state is OrderState.UNKNOWN or order.state is record.order_state:
        return None
    if not _fresh(order.effective_at, record.order_changed_at):
        return None
    values = {
        "order_state": order.state.value,
        "order_source": world.feed,
        "order_changed_at": order.effective_at,
        "order_as_of": order.effective_at,
    }
    reason = f"order {order.order_id} is {order.state.value}, the record said {record.order_state.value}"
    evidence = {"order_status": order.status, "effective_at": _text(order.effective_at)}
    known = record.order_state not in (OrderState.PENDING, OrderState.UNKNOWN)
    return FactUpdate(values, reason, evidence, f"to {order.state.value}" if known else None)


def size_update(order: Order, record: Record, world: World) -> FactUpdate | None:
    """Cores, memory, disk, system, name and addresses as sold. A value that the feed leaves out is no drift."""
    if not _fresh(order.effective_at, record.plan_changed_at):
        return None
    names_count = world.names_are_authoritative
    sold = {c.name: getattr(order, c.name) for c in DRIFTING if names_count or not c.feed_names_only}
    differing = {k: v for k, v in sold.items() if v is not None and getattr(record, k) != v}
    if not differing:
        return None
    reason = f"order {order.order_id} says otherwise of {', '.join(sorted(differing))}"
    evidence = {"effective_at": _text(order.effective_at)}
    return FactUpdate({**differing, "plan_changed_at": order.effective_at}, reason, evidence)


def order_link_update(order: Order, record: Record) -> FactUpdate | None:
    """Which order a record belongs to. Once it is written, the next run joins the two by key."""
    if record.order_id == order.order_id or order.effective_at is None:
        return None
    values = {"order_id": order.order_id, "order_linked_once": True}
    return FactUpdate(values, f"matched with order {order.order_id}", {"matched": order.order_id})


def guest_link_update(guest: Guest, record: Record, world: World) -> FactUpdate | None:
    """Which guest belongs to a record, where it is, and how sure that is."""
    if guest.fingerprint_state is FingerprintState.STALE:
        return None  # its identity is in doubt and must be read again first
    read, state = guest.fingerprint_state is FingerprintState.READ, record.link_state
    if read and guest.fingerprint is not None:
        state = LinkState.VERIFIED
    elif read or guest.fingerprint_state is FingerprintState.FORBIDDEN:
        state = LinkState.UNVERIFIED  # for example, a container without a network card has no fingerprint
    if record.guest_key is None and state not in (LinkState.VERIFIED, LinkState.UNVERIFIED):
        return None  # no link before Proxmox was asked for its identity
    values: dict[str, Any] = {"link_state": state.value}
    if read or record.fingerprint in (None, guest.fingerprint):
        values |= {
            "cluster": guest.cluster,
            "vmid": guest.vmid,
            "node": guest.node,
            "guest_type": guest.guest_type.value,
        }  # else the guest may be another machine, and its place says nothing about the record's own
    if read:
        values["fingerprint"] = guest.fingerprint
    old = {key: _plain(getattr(record, key)) for key in values}
    changed = {k: v for k, v in values.items() if old[k] != v}
    if not changed or not _fresh(guest.read_at, record.link_changed_at):
        return None
    reason = _link_reason(guest, record, changed)
    if record.claimed_key is not None:
        changed |= {"claimed_cluster": None, "claimed_vmid": None}
    changed |= {"link_changed_at": guest.read_at, "guest_linked_once": True, "link_source": "proxmox"}
    del world
    return FactUpdate(changed, reason, {"read_at": _text(guest.read_at)} | identity_evidence(guest))


def _link_reason(guest: Guest, record: Record, changed: Mapping[str, Any]) -> str:
    if set(changed) == {"node"}:
        return f"guest {guest.key} moved from node {record.node} to {guest.node}"
    if record.guest_key is None:
        return f"matched with guest {guest.key}"
    if record.guest_key != guest.key and record.fingerprint is not None and "fingerprint" in changed:
        return f"made anew: guest {record.guest_key} is gone, and the same order names {guest.key}"
    if record.guest_key != guest.key:
        return f"the same guest (fingerprint) is now {guest.key}, it was {record.guest_key}"
    if record.fingerprint is not None and changed.get("fingerprint") is not None:
        return f"reinstalled: guest {guest.key} is another machine, and the same order still names it"
    if changed.get("link_state") == LinkState.UNVERIFIED.value and guest.fingerprint_state is not FingerprintState.READ:
        return f"the identity of guest {guest.key} may not be read"
    return f"the identity of guest {guest.key} was read"


def power_update(guest: Guest, record: Record, policy: Policy) -> FactUpdate | None:
    """The guest's power as Proxmox shows it. ``unknown`` never overwrites anything."""
    if guest.power is PowerState.UNKNOWN:
        return None
    missing_over = record.missing_since is not None
    if guest.power is record.power_state and not missing_over:
        return None
    grace = policy.power_grace if record.power_source == "sync" else timedelta(0)
    if not _fresh(guest.read_at, record.power_changed_at, grace) or not _fresh(guest.read_at, record.link_changed_at):
        return None
    stopping = record.power_state is PowerState.RUNNING and guest.power is not PowerState.RUNNING
    before = guest.previous_read_at
    if stopping and not (_fresh(before, record.power_changed_at, grace) and _fresh(before, record.link_changed_at)):
        return None
    detail = guest.status if guest.status not in ("running", "stopped") else None
    if guest.lock == "suspended":
        detail = "hibernated"
    values = {
        "power_state": guest.power.value,
        "power_detail": detail,
        "power_source": "proxmox",
        "power_changed_at": guest.read_at,
        "power_as_of": guest.read_at,
        "power_unconfirmed_since": None,
        "missing_since": None,
    }
    reason = f"Proxmox shows guest {guest.key} {guest.status}, the record said {record.power_state.value}"
    reads = [_text(t) for t in (guest.previous_read_at, guest.read_at) if t is not None]
    flip = None if record.power_state is PowerState.UNKNOWN else f"to {guest.power.value}"
    evidence = {"reads": reads} | identity_evidence(guest)
    return FactUpdate(values, reason, evidence, None if guest.power is record.power_state else flip)


def identity_evidence(guest: Guest) -> dict[str, Any]:
    """Which machine a guest was by its own configuration, and when that was read last."""
    return {"identity": guest.fingerprint, "identity_read_at": _text(guest.fingerprint_read_at)}


def power_from_order(order: Order, record: Record, policy: Policy, world: World) -> FactUpdate | None:
    """Where no guest can be observed, the order's status is the only source for the power state (two-way mode)."""
    power = {"running": PowerState.RUNNING, "stopped": PowerState.STOPPED, "error": PowerState.ERROR}.get(order.status)
    if power is None or power is record.power_state:
        return None
    grace = policy.power_grace if record.power_source == "sync" else timedelta(0)
    if not _fresh(order.effective_at, record.power_changed_at, grace):
        return None
    values = {
        "power_state": power.value,
        "power_detail": None,
        "power_source": world.feed,
        "power_changed_at": order.effective_at,
        "power_as_of": order.effective_at,
    }
    reason = f"no guest can be observed; order {order.order_id} says {order.status}"
    evidence = {"order_status": order.status, "effective_at": _text(order.effective_at)}
    flip = None if record.power_state is PowerState.UNKNOWN else f"to {power.value}"
    return FactUpdate(values, reason, evidence, flip)


def owner_update(order: Order, record: Record, world: World) -> FactUpdate | None:
    """A new owner, believed only after two complete sweeps that agree; confirmed once more before the write."""
    if order.user_id is None or order.user_id == record.user_id:
        return None
    previous, swept = world.previous_orders_at, world.orders_at
    seen_twice = (
        previous is not None
        and swept is not None
        and swept > previous  # this very read is complete too
        and order.owner_since is not None
        and order.owner_since <= previous
        and order.mapped_at is not None  # a user map that is new or was changed gives another owner, too
        and order.mapped_at <= previous
        and _fresh(previous, record.owner_changed_at)
        and _fresh(order.effective_at, record.owner_changed_at)
        and order.effective_at is not None
        and order.effective_at > previous
    )
    if not seen_twice:
        return None
    values = {"user_id": order.user_id, "owner_changed_at": order.effective_at}
    evidence = {"sweeps": [_text(previous), _text(order.effective_at)]}
    return FactUpdate(values, f"order {order.order_id} belongs to another customer since two complete reads", evidence)


def _plain(value: object) -> object:
    return getattr(value, "value", value)


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
