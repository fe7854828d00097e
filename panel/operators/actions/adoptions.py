"""Give a guest that nobody ordered to an order, and take that back. A run links it, by its own rules."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from domain.adoptions.permission import names_another, why_never, why_not_yet
from domain.guests import FingerprintState, Guest, GuestKey, GuestType
from domain.identity_doubts import Doubt
from panel.adoptions import decisions
from panel.adoptions.decisions import AdoptionView
from panel.adoptions.inbox import evidence_for
from panel.adoptions.known import KnownOrder, Reading, Surroundings, guest_at, order_of_record, orders_of
from panel.observations.identity_doubts import doubt_guest
from panel.operator_error import OperatorError
from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor
from panel.runs.run_requests import request_run


@dataclass(frozen=True, slots=True)
class SeenGuest:
    """A guest as the operator saw it: where it is, what it is, and which machine. Another machine is not meant."""

    key: GuestKey
    guest_type: GuestType
    fingerprint: str


@action("adopt guest", "/adopt", later=True)
def adopt(
    connection: Connection,
    actor: Actor,
    seen: SeenGuest,
    reason: str,
    reading: Reading,
    *,
    order_id: str | None = None,
    vps_id: int | None = None,
) -> Done[AdoptionView]:
    """Say that a guest which no order names belongs to an order. The order is named by its id or by its VPS.

    The next run reads the guest's configuration again and, if it is still this machine and nothing stands against it,
    links it with the order's record. Until then it can be withdrawn. No owner changes, and no guest is touched.
    """
    if not reason.strip():
        raise OperatorError("invalid", "an adoption needs a reason")
    guest, key = _guest_that_was_seen(connection, seen), seen.key
    order = _order(connection, order_id, vps_id, reading).order
    around = Surroundings(connection, [guest], [order], reading).of(guest, order)
    why = names_another(guest, order) or why_never(guest, order, around) or why_not_yet(guest, order, around)
    if why is not None:
        raise OperatorError("conflict", f"guest {key} cannot be adopted into order {order.order_id}: {why}")
    values = {
        "cluster": key.cluster,
        "vmid": key.vmid,
        "guest_type": seen.guest_type.value,
        "fingerprint": seen.fingerprint,
        "order_id": order.order_id,
        "owner": order.owner,
        "user_id": order.user_id,
        "reason": reason.strip(),
        "evidence": evidence_for(connection, guest, order, reading),
    }
    adoption = decisions.store(connection, values, actor.by)
    # No run takes the identity that the operator saw for granted: it is read again first.
    doubt_guest(connection, key.cluster, key.vmid, Doubt.ADOPTED)
    request_run(connection)
    subjects = (f"guest:{key}", f"order:{order.order_id}", *(f"vps:{record.id}" for record in around.own))
    message = f"guest {key} is adopted into order {order.order_id}; the next run reads it again and links it"
    return Done(subjects, message, adoption)


@action("adopt withdraw", "/adoptions/{adoption_id:id}/withdraw")
def withdraw(connection: Connection, actor: Actor, adoption_id: int, reason: str) -> Done[AdoptionView]:
    """Take an adoption back that no run has followed yet."""
    if not reason.strip():
        raise OperatorError("invalid", "to withdraw an adoption, give a reason")
    adoption = decisions.withdraw(connection, adoption_id, reason, actor.by)
    subjects = (f"guest:{adoption.key}", f"order:{adoption.order_id}")
    return Done(subjects, f"the adoption of guest {adoption.key} into order {adoption.order_id} is withdrawn", adoption)


def _guest_that_was_seen(connection: Connection, seen: SeenGuest) -> Guest:
    """The guest, if it is the machine that the operator saw."""
    key = seen.key
    guest = guest_at(connection, key)
    if guest is None:
        raise OperatorError("unknown", f"guest {key} is not listed by Proxmox now; `panel-sync adopt` lists the guests")
    if guest.guest_type is not seen.guest_type:
        message = f"guest {key} is {guest.guest_type.value}, not {seen.guest_type.value}: look again"
        raise OperatorError("conflict", message)
    known = guest.fingerprint_state in (FingerprintState.READ, FingerprintState.STALE)
    if known and guest.fingerprint is not None and guest.fingerprint != seen.fingerprint:
        message = f"guest {key} is another machine than the one you saw: it is {guest.fingerprint} now; look again"
        raise OperatorError("conflict", message)
    return guest


def _order(connection: Connection, order_id: str | None, vps_id: int | None, reading: Reading) -> KnownOrder:
    if (order_id is None) == (vps_id is None):
        raise OperatorError("invalid", "name either the order or the VPS that the guest belongs to")
    if vps_id is not None:
        there, order_id = order_of_record(connection, vps_id)
        if not there:
            raise OperatorError("unknown", f"VPS {vps_id} does not exist in the panel, or is deleted")
        if order_id is None:
            message = f"VPS {vps_id} has no order: let the main site send its order_id first, then adopt"
            raise OperatorError("conflict", message)
    known = orders_of(connection, [order_id or ""], reading).get(order_id or "")
    if known is None:
        message = f"the main site lists no order {order_id}: create the order there first, wait for a run, then adopt"
        raise OperatorError("unknown", message)
    return known
