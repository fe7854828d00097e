"""The decision table: a cell for every combination of order, guest, record and in-flight. Pure.

A cell says what may be done and which facts may be written, never whether it is due: :mod:`reconcile.decision.decide`
checks grace times, freshness and proofs. docs/decision-table.md is made from this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from reconcile.decision.cases import GuestView, OrderView, RecordView


class Verdict(StrEnum):
    """What a cell allows."""

    NOTHING = "nothing"
    WAIT = "wait"  # a sync call for it is accepted but not applied
    HOLD = "hold"  # too little is known, or a person must decide: the record is neither made nor deleted
    CREATE = "create"
    REPAIR = "repair"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Cell:
    """One verdict. ``facts``: which facts may be written ("order", "power"). ``finding``: what to report."""

    verdict: Verdict
    reason: str
    facts: frozenset[str] = frozenset()
    finding: str | None = None


ORDER, POWER = frozenset({"order"}), frozenset({"power"})
BOTH = ORDER | POWER
PRESENT = {GuestView.RUNNING, GuestView.STOPPED, GuestView.ERROR}
SEEN = PRESENT | {GuestView.TRANSITIONAL, GuestView.UNKNOWN}
UNRECOGNISED = Cell(
    Verdict.HOLD, "the order's status is not a known word: change nothing, show it", finding="unrecognised-order"
)


def cell(order: OrderView, guest: GuestView, record: RecordView, in_flight: bool) -> Cell:
    """The verdict for one combination; defined for all of them."""
    if in_flight:
        return Cell(Verdict.WAIT, "a sync call for it is accepted but not applied yet")
    if record is RecordView.LIVE:
        return _live(order, guest)
    if record is RecordView.TOMBSTONE:
        return _tombstone(order, guest)
    return _no_record(order, guest)


def _live(order: OrderView, guest: GuestView) -> Cell:
    match order:
        case OrderView.UNRECOGNISED:
            return UNRECOGNISED
        case OrderView.PENDING:
            return Cell(Verdict.NOTHING, "the order is still being set up", finding="stuck-creating")
        case OrderView.ACTIVE | OrderView.SUSPENDED:
            return _live_and_sold(order, guest)
        case OrderView.ENDED:
            return _live_and_ended(guest)
        case OrderView.NONE_PROVEN:
            return _live_without_order(guest)
        case OrderView.NONE_UNPROVEN:
            # The guest's own facts are true without an order. Only a delete is held.
            power = POWER if guest in PRESENT else frozenset[str]()
            return Cell(Verdict.HOLD, "it is not proven that there is no order", power, "unlinked-record")


def _live_and_sold(order: OrderView, guest: GuestView) -> Cell:
    suspended = order is OrderView.SUSPENDED
    if guest is GuestView.RUNNING and suspended:
        return Cell(Verdict.REPAIR, "suspended by the order, yet its guest runs", BOTH, "suspended-but-running")
    if guest in PRESENT:
        return Cell(Verdict.REPAIR, "the record follows the order and the guest", BOTH)
    if guest is GuestView.UNOBSERVABLE:
        return Cell(Verdict.REPAIR, "no guest can be observed: the record follows the order alone", BOTH)
    if guest is GuestView.NONE_PROVEN:
        return Cell(
            Verdict.REPAIR, "paid for, but its guest is proven absent: the record stays", ORDER, "paid-but-missing"
        )
    if guest is GuestView.TEMPLATE:
        return Cell(Verdict.REPAIR, "sold, but its guest is a template now, which cannot run", ORDER, "is-template")
    if guest is GuestView.TRANSITIONAL:
        return Cell(Verdict.REPAIR, "the guest is locked: only the order's facts are written", ORDER)
    unseen = "guest-unseen" if guest is GuestView.NONE_UNPROVEN else None
    return Cell(Verdict.REPAIR, "the guest's state is not known: only the order's facts are written", ORDER, unseen)


def _live_and_ended(guest: GuestView) -> Cell:
    if guest is GuestView.NONE_PROVEN:
        return Cell(Verdict.DELETE, "the order ended and its guest is proven absent: a missed delete")
    if guest is GuestView.UNOBSERVABLE:
        reason = "the order ended; no guest can be observed: a delete only if none is expected on Proxmox"
        return Cell(Verdict.DELETE, reason)
    if guest is GuestView.TEMPLATE:
        return Cell(Verdict.DELETE, "the order ended, and its guest is a template now: a delete only by approval")
    if guest in SEEN:
        facts = BOTH if guest in PRESENT else ORDER
        return Cell(Verdict.REPAIR, "the order ended, but its guest is still there", facts, "ended-but-running")
    reason = "the order ended, but it is not proven that its guest is gone"
    return Cell(Verdict.HOLD, reason, ORDER, "delete-held")


def _live_without_order(guest: GuestView) -> Cell:
    if guest is GuestView.NONE_PROVEN:
        return Cell(Verdict.DELETE, "neither the order nor the guest exists any more: an orphan")
    if guest is GuestView.TEMPLATE:
        return Cell(Verdict.DELETE, "the order vanished, and its guest is a template now: a delete only by approval")
    if guest in SEEN:
        power = POWER if guest in PRESENT else frozenset[str]()
        verdict = Verdict.REPAIR if power else Verdict.HOLD
        reason = "the order vanished, but its guest is there: the record is kept"
        return Cell(verdict, reason, power, "guest-without-order")
    reason = "the order vanished, but nothing proves that the guest is gone"
    return Cell(Verdict.HOLD, reason, finding="order-vanished")


def _tombstone(order: OrderView, guest: GuestView) -> Cell:
    there = guest in SEEN
    match order:
        case OrderView.UNRECOGNISED:
            return UNRECOGNISED
        case OrderView.PENDING:
            return Cell(Verdict.NOTHING, "deleted here, yet its order is still being set up", finding="stuck-creating")
        case OrderView.ACTIVE | OrderView.SUSPENDED if there or guest in (GuestView.UNOBSERVABLE, GuestView.TEMPLATE):
            reason = "deleted here, but its order goes on: the panel brings no deleted record back by itself"
            return Cell(Verdict.HOLD, reason, finding="deleted-but-alive")
        case OrderView.ACTIVE if guest is GuestView.NONE_PROVEN:
            reason = "deleted here and its guest is proven absent, yet its order is paid for"
            return Cell(Verdict.HOLD, reason, finding="paid-but-missing")
        case OrderView.ENDED if there:
            return Cell(Verdict.NOTHING, "deleted and ended, but its guest is still there", finding="ended-but-running")
        case OrderView.NONE_PROVEN if there:
            return Cell(Verdict.NOTHING, "deleted, and no order, but a guest is there", finding="unmanaged-guest")
        case OrderView.NONE_UNPROVEN:
            return Cell(Verdict.HOLD, "deleted; it is not proven that there is no order")
        case _ if guest is GuestView.NONE_UNPROVEN:
            return Cell(Verdict.HOLD, "deleted; it is not proven that its guest is gone")
        case OrderView.SUSPENDED:
            return Cell(Verdict.NOTHING, "deleted, its guest is gone, and its order is suspended")
        case _:
            return Cell(Verdict.NOTHING, "deleted, as it should be")


def _no_record(order: OrderView, guest: GuestView) -> Cell:
    match order:
        case OrderView.UNRECOGNISED:
            return UNRECOGNISED
        case OrderView.PENDING:
            return Cell(Verdict.NOTHING, "the order is still being set up", finding="stuck-creating")
        case OrderView.ACTIVE | OrderView.SUSPENDED:
            return _sold_without_record(guest)
        case OrderView.ENDED if guest in SEEN:
            return Cell(Verdict.NOTHING, "the order ended, but its guest is still there", finding="ended-but-running")
        case OrderView.NONE_PROVEN if guest in SEEN:
            return Cell(Verdict.NOTHING, "a guest that no order names", finding="unmanaged-guest")
        case OrderView.NONE_UNPROVEN if guest in SEEN:
            return Cell(Verdict.HOLD, "a guest alone, and the orders are not completely known")
        case OrderView.NONE_UNPROVEN:
            return Cell(Verdict.HOLD, "it is not proven that there is no order")
        case _ if guest is GuestView.NONE_UNPROVEN:
            return Cell(Verdict.HOLD, "it is not proven that there is no guest")
        case _ if guest is GuestView.TEMPLATE:
            return Cell(Verdict.NOTHING, "a template is no customer's machine")
        case OrderView.ENDED:
            return Cell(Verdict.NOTHING, "the order ended, and nothing is left of it")
        case _:
            return Cell(Verdict.NOTHING, "there is no order and no guest")


def _sold_without_record(guest: GuestView) -> Cell:
    if guest in PRESENT:
        return Cell(Verdict.CREATE, "sold and there, but without a record: a missed create", BOTH)
    if guest is GuestView.UNOBSERVABLE:
        return Cell(Verdict.CREATE, "sold, without a record; no guest can be observed: a missed create", BOTH)
    if guest is GuestView.NONE_PROVEN:
        return Cell(Verdict.HOLD, "sold, but neither guest nor record", finding="paid-but-missing")
    if guest is GuestView.TEMPLATE:
        return Cell(Verdict.HOLD, "sold, but the guest that it names is a template", finding="is-template")
    # A record would need a status, and the panel never invents one.
    unseen = "guest-unseen" if guest is GuestView.NONE_UNPROVEN else None
    return Cell(Verdict.HOLD, "sold, but the guest's state is not known: no record is made yet", finding=unseen)


def all_cells() -> list[tuple[OrderView, GuestView, RecordView, bool, Cell]]:
    """Every combination with its cell, in the documented order."""
    return [(o, g, r, f, cell(o, g, r, f)) for r, o, g, f in product(RecordView, OrderView, GuestView, (False, True))]
