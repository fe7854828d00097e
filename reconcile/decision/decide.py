"""What to do with each case: the table's verdict, then what is due by grace, freshness and proof. Pure and total.

``decide`` looks nothing up. A change names its confirmations, and the run does them just before the write.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from domain.changes import Change, ChangePlan, Finding, Kind, Merge, Unlink
from domain.confirmations import (
    GuestLeftItsAddress,
    NextOrderNamesGuest,
    OneGuestIsGone,
    OrderIsOver,
    OrderNamesSurvivor,
)
from domain.orders import Order, OrderState
from reconcile.decision.cases import Case, GuestView, Policy, World, guest_view, order_to_ask, order_view, record_view
from reconcile.decision.creates import create
from reconcile.decision.deletes import (
    approvable_delete,
    delete_change,
    delete_hindrance,
    unlinked_delete,
    why_not_its_order,
)
from reconcile.decision.findings import due_finding, finding, unread_finding
from reconcile.decision.matching.duplicates import gone_everywhere, have_different_guests
from reconcile.decision.matching.match import match
from reconcile.decision.matching.possible_locations import (
    seen_elsewhere,
    why_maybe_elsewhere,
    why_seen_elsewhere,
)
from reconcile.decision.matching.sold_on import sold_on, why_not_yet_sold_on
from reconcile.decision.table import Cell, Verdict, cell
from reconcile.decision.updates import order_state, order_updates, record_updates


def plan(world: World, policy: Policy) -> ChangePlan:
    """Match a world and decide every case; changes in the order of application.

    No run calls this: tests do, because an object that raises must end a test. A run calls
    ``failure_isolation.isolated_plan``, which makes the same plan by ``match``, ``decide`` and ``assemble``, and leaves
    out what raises.
    """
    return assemble(decide(case, world, policy) for case in match(world, policy))


def assemble(decisions: Iterable[Decision]) -> ChangePlan:
    """The plan made of all decisions, with the changes in the order of application."""
    changes: list[Change] = []
    findings: list[Finding] = []
    for decision in decisions:
        changes += decision.changes
        findings += decision.findings
    return ChangePlan(in_order(changes), tuple(sorted(findings, key=lambda f: (f.class_, f.subject))))


def in_order(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The changes in the order of application: class by class."""
    order = {kind: position for position, kind in enumerate(Kind)}
    return tuple(sorted(changes, key=lambda c: (order[c.kind], c.subject)))


@dataclass(frozen=True, slots=True)
class Decision:
    """The changes and findings of one case, and the table's cell that led to them.

    ``waits``: a call or a lock is under way, so the case's earlier findings stay as they are.
    """

    cell: Cell
    waits: bool = False
    changes: list[Change] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, results: Iterable[Change | Finding | None]) -> None:
        """Sort results into changes and findings."""
        for result in results:
            if isinstance(result, Change):
                self.changes.append(result)
            elif result is not None:
                self.findings.append(result)


def decide(case: Case, world: World, policy: Policy) -> Decision:
    """Decide one case. Total: every combination of views has a verdict. A case in doubt is held."""
    views = order_view(case, world, policy), guest_view(case, world, policy), record_view(case)
    in_flight = any(r.in_flight for r in (case.record, case.duplicate) if r is not None)
    verdict = cell(*views, in_flight)
    decision = Decision(verdict, waits=in_flight or views[1] is GuestView.TRANSITIONAL)
    if verdict.verdict is Verdict.WAIT:
        return decision
    if case.dispute is not None and case.record is not None:
        named = replace(case, guest_key=case.record.claimed_key)
        decision.findings.append(finding(named, "link-conflict", case.dispute))
    if case.doubt is not None:
        decision.findings.append(finding(case, case.doubt_class, case.doubt, case.doubt_severity))
        return decision
    if _decide_foreign_guest(decision, case, world, policy):
        return decision
    if (unread := unread_finding(case, world, policy)) is not None:
        decision.findings.append(unread)
    if verdict.finding is not None and (due := due_finding(verdict, case, world, policy)) is not None:
        decision.findings.append(due)
        no_order_known = due.class_ in ("unlinked-record", "order-vanished")
        if no_order_known and (by_approval := unlinked_delete(case, world, policy)) is not None:
            decision.changes.append(by_approval)
    match verdict.verdict:
        case Verdict.CREATE:
            decision.add([create(case, views[1], world, policy)])
        case Verdict.REPAIR:
            decision.add(record_updates(case, verdict, views[1], world, policy))
        case Verdict.DELETE:
            _delete(decision, case, world, policy)
        case _ if verdict.facts:
            decision.add(record_updates(case, verdict, views[1], world, policy))
    return decision


def _decide_foreign_guest(decision: Decision, case: Case, world: World, policy: Policy) -> bool:
    """Whether a record's guest is another machine now, or also another record's or another order's. If so, that is
    decided here, and nothing else of the case."""
    if (unlink := _unlink(case, world, policy)) is not None:
        decision.changes.append(unlink)
    elif case.duplicate is not None and case.record is not None:
        decision.changes.append(_merge(case, world, policy))
    elif case.sold_to is not None and case.guest is not None:
        _sold_on(decision, case, case.sold_to, world, policy)
    else:
        return False
    return True


# --- deletes, merges, unlinks


def _delete(decision: Decision, case: Case, world: World, policy: Policy) -> None:
    record, order = case.record, case.order
    if record is None:
        return
    why_not = delete_hindrance(case, world, policy)
    if why_not is None:
        decision.changes.append(delete_change(case, world, policy))
        return
    class_ = "unlinked-record" if order is None and record.order_id is None else "delete-held"
    class_ = "is-template" if case.guest is not None and case.guest.template else class_
    decision.findings.append(finding(case, class_, why_not))
    if order is not None and why_not_its_order(order, record) is None:
        decision.add(order_state(case, world))
    # The operator is asked only after the record's own facts are written: an approval is for one version of it.
    if not decision.changes and (by_approval := approvable_delete(case, world, policy, why_not)) is not None:
        decision.changes.append(by_approval)


def _merge(case: Case, world: World, policy: Policy) -> Merge:
    if case.record is None or case.duplicate is None:
        raise ValueError("a merge needs two records")
    survivor, loser = case.record, case.duplicate
    order = case.order
    named = order.panel_vps_id if order is not None else None
    if named is None:
        # The feed names neither: the id that an update used last survives, else the record that was made last.
        ranked = sorted(
            (survivor, loser), key=lambda r: (r.last_update_at is not None, r.last_update_at or r.created_at, r.id)
        )
        loser, survivor = ranked
    reason = f"VPS {loser.id} and VPS {survivor.id} are one machine; both ids keep working"
    evidence = {"order": order.order_id if order else None, "survivor": survivor.id, "named_by_feed": named}
    # Of two guests, the one that is proven gone is dropped.
    gone = [r.guest_key is not None and gone_everywhere(r, r.guest_key, world, policy) for r in (survivor, loser)]
    takes_guest = gone == [True, False] and loser.guest_key is not None
    if takes_guest:
        reason += f"; it keeps the guest of VPS {loser.id} ({loser.guest_key}), because {survivor.guest_key} is gone"
    # A merge cannot be undone. So the run asks the order again which record it names. If there are two guests, the one
    # that is dropped must be gone from every address where either was seen.
    places = {p for r in (loser, survivor) if r.guest_key is not None for p in seen_elsewhere(r, r.guest_key, world)}
    one_is_gone = OneGuestIsGone((survivor if takes_guest else loser,), tuple(sorted(places, key=str)))
    survives = OrderNamesSurvivor(order_to_ask(order, loser), order)
    # One of them may be linked with yet another order, which is only missed.
    others = {r.order_id for r in (loser, survivor)} - {None, order.order_id if order is not None else None}
    over = tuple(OrderIsOver(order_id) for order_id in sorted(filter(None, others)))
    return Merge(
        source=world.feed,
        reason=reason,
        record=loser,
        survivor=survivor,
        takes_guest=takes_guest,
        order=order,
        guest_key=case.guest_key,
        evidence=evidence,
        confirm=((one_is_gone,) if have_different_guests(loser, survivor) else ()) + (survives, *over),
    )


def _unlink(case: Case, world: World, policy: Policy) -> Unlink | None:
    """The change by which a record gives up its address: another guest has it now, and another order, active or
    suspended, names that guest. None if no such order does, or if the record's own machine may be at another address:
    a record that gave up its guest is not looked for any more."""
    record, key = case.record, case.guest_key
    if not case.replaced or record is None or not record.live or key is None:
        return None
    known = record.fingerprint is not None
    if known and (why_seen_elsewhere(record, key, world, policy) or why_maybe_elsewhere(record, world)) is not None:
        return None
    claiming = (
        o
        for o in world.orders
        if o.guest_key == key and o.state in (OrderState.ACTIVE, OrderState.SUSPENDED) and o is not case.order
    )
    other = min(claiming, key=lambda o: o.order_id, default=None)
    if other is None:
        return None
    reason = f"guest {key} is another machine now and belongs to order {other.order_id}; VPS {record.id} lost its guest"
    evidence = {"guest": str(key), "order": other.order_id, "old_fingerprint": record.fingerprint}
    return Unlink(
        source="proxmox",
        reason=reason,
        record=record,
        order=case.order,
        guest_key=key,
        evidence=evidence,
        # The other order may have been read long ago, and may name another guest by now. Nobody looks for the record's
        # machine afterwards, so it is looked for as before a delete. If the record's order is only missed, it is asked.
        confirm=(
            NextOrderNamesGuest(other.order_id, key),
            *(GuestLeftItsAddress(record, place) for place in (key, *seen_elsewhere(record, key, world)) if known),
            *((OrderIsOver(record.order_id),) if case.order is None and record.order_id is not None else ()),
        ),
    )


def _sold_on(decision: Decision, case: Case, buyer: Order, world: World, policy: Policy) -> None:
    """The record's order does not go on, and another order names its machine. So the record's customer is shown nothing
    more of the machine, and the record gives it up once an operator or the policy allows that."""
    record, guest = case.record, case.guest
    if record is None or guest is None:
        return
    decision.add(order_updates(case, world))
    customer = "the same customer" if buyer.user_id == record.user_id else "another customer"
    over = (
        f"order {case.order.order_id} ended" if case.order is not None else f"VPS {record.id} has no order that goes on"
    )
    reason = f"{over}, and order {buyer.order_id} of {customer} names its guest {guest.key}"
    why_not = why_not_yet_sold_on(case, buyer, world, policy)
    message = f"{reason}: nothing of it is shown to VPS {record.id}'s customer"
    message += f"; {why_not}" if why_not is not None else f"; it is the same machine ({guest.fingerprint})"
    severity = "warning" if buyer.user_id == record.user_id else None
    decision.findings.append(finding(case, "sold-on", message, severity))
    # The operator is asked only after the record's own facts are written: an approval is for one version of it.
    if why_not is None and not decision.changes:
        decision.changes.append(sold_on(case, buyer, world, reason))
