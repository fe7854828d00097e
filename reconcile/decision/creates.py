"""Make the record of an order whose create never arrived, or say why not. Pure."""

from __future__ import annotations

from typing import Any

from domain.changes import Create, Finding
from domain.confirmations import OrderGoesOn, OrderNamesGuest
from domain.guests import FingerprintState, Guest, PowerState
from domain.orders import Order
from domain.record_columns import Facts, ValueSource, given_by
from domain.records import LinkState
from reconcile.decision.adoptions import followed
from reconcile.decision.cases import Case, GuestView, Policy, World
from reconcile.decision.findings import finding

SOLD = tuple(column for column in given_by(ValueSource.ORDER) if column.group is not Facts.LINK)
"""The columns that a new record takes from its order. The columns of its link come from the guest itself."""


def create(case: Case, view: GuestView, world: World, policy: Policy) -> Create | Finding | None:
    """The change that makes the missing record of a case's order, or a finding why that cannot be done; None while it
    is too early to tell."""
    order, guest = case.order, case.guest
    if order is None:
        return None
    if order.user_id is None:
        return finding(case, "owner-unknown", unknown_owner(order))
    if order.effective_at is None or order.first_seen_at is None:
        return None
    if world.now - order.first_seen_at < policy.create_grace or _owner_seen_once(order, world):
        return None
    missing = [
        n
        for n, v in (("name", order.name), ("cpu", order.cpu), ("ram", order.ram_mb), ("disk", order.disk_gb))
        if not v
    ]
    if missing:
        reason = f"the feed does not say {', '.join(missing)} of order {order.order_id}: no record can be made"
        return finding(case, "incomplete-order", reason)
    if guest is not None and guest.fingerprint_state not in (FingerprintState.READ, FingerprintState.FORBIDDEN):
        return None  # its identity is read first, and the next run makes the record
    evidence: dict[str, Any] = {
        "order": order.order_id,
        "order_status": order.status,
        "first_seen_at": order.first_seen_at.isoformat(),
    }
    if guest is not None:
        evidence |= {"guest": str(guest.key), "guest_status": guest.status}
    made = Create(
        source=world.feed,
        reason=f"order {order.order_id} is {order.state.value} and has no record: its create never arrived",
        order=order,
        guest=guest,
        guest_key=case.guest_key,
        values=_columns(order, guest, _power(order, guest, view)),
        evidence=evidence,
        confirm=(_still_sold(order, guest),),
    )
    return followed(made, order, world)


def _columns(order: Order, guest: Guest | None, power: PowerState) -> dict[str, Any]:
    """A new record's columns: what was sold, and the power, the place and the identity of its guest."""
    sold = {column.name: getattr(order, column.name) for column in SOLD}
    values = {
        "user_id": order.user_id,
        "power_state": power.value,
        # An approval's hash is made of these values. A value that the order leaves out must not be part of it. Only
        # ip_address always is, because the hashes of stored approvals contain it even without a value.
        **{name: value for name, value in sold.items() if value is not None or name == "ip_address"},
        "os": order.os or "unknown",
        "hypervisor": order.hypervisor or "proxmox",
        "order_id": order.order_id,
        "order_state": order.state.value,
    }
    if guest is None:
        return values
    verified = guest.fingerprint_state is FingerprintState.READ and guest.fingerprint is not None
    return values | {
        "power_source": "proxmox",
        "cluster": guest.cluster,
        "node": guest.node,
        "vmid": guest.vmid,
        "guest_type": guest.guest_type.value,
        "fingerprint": guest.fingerprint if verified else None,
        "link_state": (LinkState.VERIFIED if verified else LinkState.UNVERIFIED).value,
    }


def _power(order: Order, guest: Guest | None, view: GuestView) -> PowerState:
    if guest is not None:
        return guest.power
    if view is GuestView.UNOBSERVABLE and order.status in ("running", "stopped", "error"):
        return PowerState(order.status)
    return PowerState.UNKNOWN


def _still_sold(order: Order, guest: Guest | None) -> OrderGoesOn:
    """The question to the main site before a record is made: about the order, and the guest if one was found."""
    if guest is None:
        return OrderGoesOn(order.order_id, order)
    return OrderNamesGuest(order.order_id, order, guest.key, or_none=True)


def unknown_owner(order: Order) -> str:
    """Why an order's customer is not known to the panel, and what to do."""
    if order.owner is None:
        return f"the feed names no owner of order {order.order_id}"
    return (
        f"the owner of order {order.order_id} is the main site's user {order.owner}, whom the panel does not know: "
        f"run panel-sync users map PANEL_ID {order.owner}"
    )


def _owner_seen_once(order: Order, world: World) -> bool:
    """Whether an order that was known before got its owner only in the last sweep: the feed may be mistaken."""
    before, known, owned = world.previous_orders_at, order.first_seen_at, order.owner_since
    return before is not None and known is not None and owned is not None and known <= before < owned
