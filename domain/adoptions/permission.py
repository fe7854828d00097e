"""May a guest be adopted into an order? The list of candidates, the operator's request and the run all ask here. Pure.

An adoption is the operator's word where the main site says nothing: which guest an order has. It is never stronger than
the main site's own word, and it changes no owner.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.guests import FingerprintState, Guest, GuestKey
from domain.orders import Order, OrderState, fits_type, may_be_on_proxmox
from domain.records import Record

GOES_ON = frozenset({OrderState.ACTIVE, OrderState.SUSPENDED})
"""States of an order that has a machine."""


@dataclass(frozen=True, slots=True)
class Around:
    """What else the panel knows of a guest and an order.

    ``own``: the order's live records. ``others``: the other live records that have the guest's address, for which a
    call named it, or that have its fingerprint. ``naming``: the other orders, not ended, that name the guest.
    ``twins``: the other guests that are listed with its fingerprint. ``deleted``: records that were deleted, not
    merged: the order's, and those that had the guest's fingerprint.
    """

    own: tuple[Record, ...] = ()
    others: tuple[Record, ...] = ()
    naming: tuple[str, ...] = ()
    twins: tuple[GuestKey, ...] = ()
    deleted: tuple[Record, ...] = ()


def names_another(guest: Guest, order: Order) -> str | None:
    """What the operator should have the main site correct, if the order names a guest itself."""
    if order.guest_key is None:
        return None
    if order.guest_key == guest.key:
        return f"order {order.order_id} names guest {guest.key} itself: the next run links it"
    return (
        f"order {order.order_id} names guest {order.guest_key}, and the main site's word counts: if it is guest "
        f"{guest.key}, let the main site name that one"
    )


def why_never(guest: Guest, order: Order, around: Around) -> str | None:
    """Why this guest is not this order's, as things stand; None if it may be."""
    return why_guest_is_taken(guest, around) or _why_order_takes_none(guest, order, around)


def why_guest_is_taken(guest: Guest, around: Around) -> str | None:
    """Why the guest may be adopted into no order at all; None if nothing stands against it."""
    if guest.template:
        return f"guest {guest.key} is a template: it is no customer's machine"
    if around.others:
        return _whose(guest, min(around.others, key=lambda r: r.id))
    if around.naming:
        return f"order {min(around.naming)} names guest {guest.key}"
    return None


def _whose(guest: Guest, record: Record) -> str:
    if record.guest_key == guest.key:
        return f"guest {guest.key} is linked to VPS {record.id}"
    if record.claimed_key == guest.key:
        return f"a call named guest {guest.key} for VPS {record.id}"
    return f"the machine at {guest.key} is, by its fingerprint, VPS {record.id}'s ({record.guest_key})"


def _why_order_takes_none(guest: Guest, order: Order, around: Around) -> str | None:
    if order.state is OrderState.ENDED:
        return f"order {order.order_id} ended"
    if not may_be_on_proxmox(order):
        return f"order {order.order_id} was sold on {order.hypervisor}, not on Proxmox"
    if not fits_type(order, guest):
        return f"guest {guest.key} is {guest.guest_type.value}, but order {order.order_id} sold another type"
    for record in around.deleted:
        if record.fingerprint == guest.fingerprint is not None and record.user_id != order.user_id:
            return f"guest {guest.key} is the machine of VPS {record.id}, which was deleted and was another customer's"
    for record in around.own:
        if record.guest_key is not None or record.fingerprint is not None:
            return f"order {order.order_id} has VPS {record.id}, whose guest is {record.guest_key or 'another one'}"
        if record.claimed_key is not None:
            return f"a call named guest {record.claimed_key} for VPS {record.id} of order {order.order_id}"
        if order.user_id is not None and record.user_id != order.user_id:
            return f"order {order.order_id} and its VPS {record.id} name different customers: settle that first"
    if len(around.own) > 1:
        return f"order {order.order_id} has {len(around.own)} records: let the main site name one"
    return None


def why_not_yet(guest: Guest, order: Order, around: Around) -> str | None:
    """Why it may not be linked now although it may be right; None if it may be."""
    return why_guest_waits(guest, around) or why_order_waits(order, around)


def why_guest_waits(guest: Guest, around: Around) -> str | None:
    """Why nothing may be linked to this guest now."""
    if guest.fingerprint_state is FingerprintState.FORBIDDEN:
        return f"the identity of guest {guest.key} may not be read (HTTP 403): give the token VM.Audit on /vms"
    if guest.fingerprint_state is FingerprintState.UNREAD:
        return f"the identity of guest {guest.key} was not read yet: wait for the next run"
    if guest.fingerprint is None:
        return f"guest {guest.key} has nothing that shows which machine it is: give it a network card or an SMBIOS uuid"
    if around.twins:
        return (
            f"guest {min(around.twins, key=str)} has the same identity as guest {guest.key}: give one of them its own"
        )
    return None


def why_order_waits(order: Order, around: Around) -> str | None:
    """Why nothing may be linked to this order now."""
    if order.state not in GOES_ON:
        return f"order {order.order_id} is {order.status}: wait until it goes on"
    if order.user_id is None and order.owner is None:
        return f"the feed names no owner of order {order.order_id}"
    if order.user_id is None:
        return (
            f"the owner of order {order.order_id} is the main site's user {order.owner}, whom the panel does not know: "
            f"run panel-sync users map PANEL_ID {order.owner}"
        )
    deleted = [r.id for r in around.deleted if r.order_id == order.order_id or r.id == order.panel_vps_id]
    if deleted and not around.own:
        back = f"panel-sync vps restore {max(deleted)}"
        return f"VPS {max(deleted)} of order {order.order_id} was deleted: bring it back first ({back})"
    if any(record.in_flight for record in around.own):
        return f"a call for order {order.order_id} waits to be applied"
    return None
