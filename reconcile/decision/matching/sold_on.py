"""A machine that is sold on: one order ended, and the next order names the same machine. Pure.

The record of the ended order gives up the machine. Then the buyer's record is linked with it, or made, like any other.
Between two customers an operator must approve it, unless the policy says otherwise.
"""

from __future__ import annotations

from domain.changes import SellOn, Unlink
from domain.confirmations import GuestIsTheSameMachine, NextOrderNamesGuest, OrderIsOver
from domain.guests import FingerprintState, Guest
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from reconcile.decision.cases import Case, Policy, World, order_to_ask
from reconcile.decision.matching.order_traits import has_ended, later


def why_not_yet_sold_on(case: Case, buyer: Order, world: World, policy: Policy) -> str | None:
    """Why the record cannot give up its machine yet; None if only an approval is missing."""
    record, guest = case.record, case.guest
    if record is None or guest is None:
        return "there is no linked guest to give up"
    return _why_not_given_up(record, guest, case.order, world, policy) or _why_not_bought(
        buyer, guest, case.order, world
    )


def _why_not_given_up(record: Record, guest: Guest, order: Order | None, world: World, policy: Policy) -> str | None:
    """Why the record keeps its machine for now."""
    if guest.cluster not in world.trusted or guest.fingerprint_state is not FingerprintState.READ:
        return f"the identity of guest {guest.key} must be read again first"
    if record.link_state is not LinkState.VERIFIED or guest.fingerprint != record.fingerprint:
        return f"nothing shows that guest {guest.key} is VPS {record.id}'s machine"
    if order is not None and record.order_state is not OrderState.ENDED:
        return f"the record of VPS {record.id} does not show yet that its order ended"
    if order is None and not policy.proven(world.order_absences.get(record.order_id or "")):
        return f"nothing proves that VPS {record.id} has no order any more"
    if record.protected_until is not None and record.protected_until > world.now:
        return f"VPS {record.id} was restored and is protected until {record.protected_until.isoformat()}"
    return None


def _why_not_bought(buyer: Order, guest: Guest, order: Order | None, world: World) -> str | None:
    """Why the buyer's order does not get the machine yet."""
    if buyer.order_id in world.order_absences:
        return f"the last full read of the orders left out order {buyer.order_id}, and nothing proves that it is gone"
    if buyer.state not in (OrderState.ACTIVE, OrderState.SUSPENDED):
        return f"order {buyer.order_id} is {buyer.state.value}"
    if buyer.user_id is None:
        return f"the owner of order {buyer.order_id} is not known to the panel"
    if order is not None and later(order, buyer):
        return f"order {buyer.order_id} was made before order {order.order_id}: one of the two names the wrong guest"
    if any(r.live and r.order_id == buyer.order_id and r.guest_key is not None for r in world.records):
        return f"order {buyer.order_id} has a record with a guest of its own"
    others = [
        o.order_id
        for o in world.claiming_orders
        if o.guest_key == guest.key and not has_ended(o) and o is not buyer and o is not order
    ]
    if others:
        return f"order {min(others)} names it, too"
    named, swept = buyer.guest_since, world.previous_orders_at
    if named is None or swept is None or named > swept:
        return f"order {buyer.order_id} has named it in no full read of the orders before this run"
    return None


def sold_on(case: Case, buyer: Order, world: World, reason: str) -> Unlink:
    """The change that gives up the machine. Just before it, the run looks up the ended order, the buyer's order and the
    machine one by one."""
    record, guest, order = case.record, case.guest, case.order
    if record is None or guest is None:
        raise ValueError("a machine that is sold on needs a record and a guest")
    same_customer = buyer.user_id == record.user_id
    evidence = {
        "guest": str(guest.key),
        "identity": guest.fingerprint,
        "identity_read_at": guest.fingerprint_read_at.isoformat() if guest.fingerprint_read_at is not None else None,
        "order": order.order_id if order is not None else record.order_id,
        "buyer": buyer.order_id,
        "named_since": buyer.guest_since.isoformat() if buyer.guest_since is not None else None,
    }
    change = Unlink if same_customer else SellOn
    return change(
        source=world.feed,
        reason=f"{reason}, the same machine: VPS {record.id} gives it up",
        record=record,
        order=order,
        guest_key=guest.key,
        evidence=evidence,
        confirm=(
            NextOrderNamesGuest(buyer.order_id, guest.key),
            OrderIsOver(order_to_ask(order, record)),
            GuestIsTheSameMachine(record, guest.key),
        ),
    )
