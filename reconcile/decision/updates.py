"""What to write on a record that exists: its order's state and size, its guest, its power, its owner. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from domain.changes import Change, ChangeOwner, Finding, Link, SetSize, SetStatus
from domain.confirmations import (
    Confirmation,
    GuestLeftItsAddress,
    OrderGoesOn,
    OrderIsOver,
    OrderNamesGuest,
    OrderNamesOwner,
    PaidGuestIsMissing,
)
from domain.guests import FingerprintState, Guest, GuestKey
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from reconcile.decision import fact_updates
from reconcile.decision.adoptions import followed
from reconcile.decision.cases import Case, GuestView, Policy, World, order_to_ask
from reconcile.decision.creates import unknown_owner
from reconcile.decision.deletes import two_way
from reconcile.decision.fact_updates import FactUpdate
from reconcile.decision.findings import finding
from reconcile.decision.matching.possible_locations import seen_elsewhere, why_maybe_elsewhere
from reconcile.decision.table import Cell


def record_updates(case: Case, cell: Cell, view: GuestView, world: World, policy: Policy) -> Iterator[Change | Finding]:
    """The changes and findings for all that differs between a case's record and its order and guest."""
    record, order, guest = case.record, case.order, case.guest
    if record is None:
        return
    if order is not None and "order" in cell.facts:
        yield from order_updates(case, world)
    # A template is the record's machine only if its fingerprint shows that this is what was sold.
    ignored = view is GuestView.TRANSITIONAL or (guest is not None and guest.template and record.fingerprint is None)
    if guest is not None and guest.cluster in world.trusted and not ignored:
        if not _may_be_another(case, guest, record, world):
            yield from _guest_link(case, guest, record, world)
            if "power" in cell.facts and _identified(case, world):
                yield from _status(case, "proxmox", fact_updates.power_update(guest, record, policy))
    elif order is not None and view is GuestView.UNOBSERVABLE and two_way(case, world):
        yield from _status(case, world.feed, fact_updates.power_from_order(order, record, policy, world))
    if view is GuestView.NONE_PROVEN and cell.finding == "paid-but-missing" and case.guest_key is not None:
        yield from _missing(case, case.guest_key, record, world, policy)


# --- by the order


def order_updates(case: Case, world: World) -> Iterator[Change | Finding]:
    """What follows from the order: the link to it and its state, and while it goes on, what was sold and to whom."""
    record, order = case.record, case.order
    if record is None or order is None or _by_name_only(order, record):
        return  # the end of an order is written only to a record that was linked with it
    left = record.order_id if record.order_id != order.order_id else None
    if (linked := fact_updates.order_link_update(order, record)) is not None:
        yield _link(case, record, world.feed, linked, confirm=(OrderIsOver(left),) if left is not None else ())
    if left is not None:
        return  # the record's own order is only missed: nothing is taken from another before that one says it is over
    yield from order_state(case, world)
    if order.state is OrderState.ENDED:
        return
    if (sold := fact_updates.size_update(order, record, world)) is not None:
        yield SetSize(
            source=world.feed,
            reason=sold.reason,
            record=record,
            order=order,
            guest=case.guest,
            guest_key=case.guest_key,
            values=sold.values,
            evidence=sold.evidence,
        )
    if order.user_id is None and order.owner is not None:
        yield finding(case, "owner-unknown", unknown_owner(order))
    elif order.user_id is not None and order.user_id != record.user_id:
        reason = f"order {order.order_id} belongs to another customer than VPS {record.id}"
        yield finding(case, "ownership", reason)
        yield from _owner(case, order, record, world)


def order_state(case: Case, world: World) -> Iterator[SetStatus]:
    """The order's state, if it is suspended, active again, or ended, and the record does not say so."""
    if case.record is not None and case.order is not None:
        yield from _status(case, world.feed, fact_updates.order_state_update(case.order, case.record, world))


def _owner(case: Case, order: Order, record: Record, world: World) -> Iterator[ChangeOwner]:
    if (owner := fact_updates.owner_update(order, record, world)) is not None:
        yield ChangeOwner(
            source=world.feed,
            reason=owner.reason,
            record=record,
            order=order,
            guest=case.guest,
            guest_key=case.guest_key,
            values=owner.values,
            evidence=owner.evidence,
            confirm=(OrderNamesOwner(order.order_id, order.owner),),
        )


def _by_name_only(order: Order, record: Record) -> bool:
    """Whether an ended order and a record were never linked."""
    return order.state is OrderState.ENDED and order.order_id != record.order_id and order.panel_vps_id != record.id


# --- by the guest


def _may_be_another(case: Case, guest: Guest, record: Record, world: World) -> bool:
    """Whether the guest at the record's address may be another machine, because no identity was read in time."""
    # Never link an ended order's record to whatever guest now has its VMID. Nor to a guest whose identity was never
    # read while the order went on: it may be the next customer's machine.
    ended = case.order is not None and case.order.state is OrderState.ENDED
    if ended and record.guest_linked_once and (record.guest_key is None or record.fingerprint is None):
        return True
    return case.order is None and _named_by_a_call_only(record, guest, world)


def _named_by_a_call_only(record: Record, guest: Guest, world: World) -> bool:
    """Whether only a call says that this guest is the record's, and its identity was not read yet. The call may have
    come late, and the address may be the next machine's by now. An order that names the guest decides it. Without a
    feed nothing can, so the call counts."""
    unseen = record.link_state in (LinkState.PUSHED, LinkState.UNVERIFIED) and record.fingerprint is None
    return unseen and world.has_feed and _naming(guest, world) is None


def _naming(guest: Guest, world: World) -> Order | None:
    """The order, not ended, that names a guest; of several, the first by id."""
    naming = (o for o in world.orders if o.guest_key == guest.key and o.state is not OrderState.ENDED)
    return min(naming, key=lambda o: o.order_id, default=None)


def _guest_link(case: Case, guest: Guest, record: Record, world: World) -> Iterator[Link]:
    """Which guest belongs to the record. Before a machine is linked, the run asks the order again: the VMID may have
    been resold since the order was read, and an address alone does not say which machine it was meant for."""
    if (linked := fact_updates.guest_link_update(guest, record, world)) is None:
        return
    first = record.fingerprint is None
    named_by = case.order or (_naming(guest, world) if first else None)
    identified = "fingerprint" in linked.values or (first and "link_state" in linked.values)
    asks = (identified or record.guest_key is None) and (not first or (named_by is not None and world.has_feed))
    confirm: list[Confirmation] = []
    if record.guest_key is not None and record.guest_key != guest.key:
        confirm.append(GuestLeftItsAddress(record, record.guest_key))
    if asks:
        confirm.append(OrderNamesGuest(order_to_ask(named_by, record), named_by, guest.key, or_none=first))
    yield followed(_link(case, record, "proxmox", linked, named_by, tuple(confirm)), named_by, world)


def _identified(case: Case, world: World) -> bool:
    """Whether the guest's power may be written on the record. Nothing is written from a guest in doubt."""
    record, guest = case.record, case.guest
    if record is None or guest is None:
        return False
    if record.guest_key is None or (record.link_state is LinkState.PUSHED and world.has_feed):
        return False  # the link is confirmed and written first; the power follows in the next run
    looked_at = guest.fingerprint_state in (FingerprintState.READ, FingerprintState.FORBIDDEN)
    return looked_at and record.fingerprint in (None, guest.fingerprint)


def _missing(case: Case, key: GuestKey, record: Record, world: World, policy: Policy) -> Iterator[SetStatus]:
    """That a guest which is paid for is gone. A list that leaves out one guest, or an order read long ago, looks the
    same. So the run asks for both singly before the client sees "error"."""
    absence, places = world.guest_absences.get(key), seen_elsewhere(record, key, world)
    if record.missing_since is not None or absence is None:
        return
    if world.now - absence.absent_since < policy.paid_missing_grace:
        return
    if not all(policy.proven(world.guest_absences.get(place)) for place in places):
        return
    if why_maybe_elsewhere(record, world) is not None:
        return
    missing = FactUpdate(
        {"missing_since": absence.absent_since, "power_unconfirmed_since": absence.absent_since},
        f"guest {key} is proven absent, yet paid for",
        {"snapshots": list(absence.evidence)},
    )
    order_goes_on = OrderGoesOn(order_to_ask(case.order, record), case.order)
    yield from _status(case, "proxmox", missing, (PaidGuestIsMissing(record, key, places), order_goes_on))


# --- building changes


def _link(
    case: Case,
    record: Record,
    source: str,
    linked: FactUpdate,
    order: Order | None = None,
    confirm: tuple[Confirmation, ...] = (),
) -> Link:
    return Link(
        source=source,
        reason=linked.reason,
        record=record,
        order=order or case.order,
        guest=case.guest,
        guest_key=case.guest_key,
        values=linked.values,
        evidence=linked.evidence,
        confirm=confirm,
    )


def _status(
    case: Case, source: str, update: FactUpdate | None, confirm: tuple[Confirmation, ...] = ()
) -> Iterator[SetStatus]:
    if update is not None and case.record is not None:
        yield SetStatus(
            source=source,
            reason=update.reason,
            record=case.record,
            order=case.order,
            guest=case.guest,
            guest_key=case.guest_key,
            values=update.values,
            evidence=update.evidence,
            confirm=confirm,
            flip=update.flip,
        )
