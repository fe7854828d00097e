"""What to do with each case: the table's verdict, then what is due by grace, freshness and proof. Pure and total.

``decide`` never looks anything up: confirmations are named in the change and done just before the write.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from domain.changes import Change, Finding, Kind, Plan
from domain.guests import FingerprintState, Guest, PowerState
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from reconcile.decision import fact_updates
from reconcile.decision.cases import (
    Case,
    GuestView,
    OrderView,
    Policy,
    RecordView,
    World,
    guest_view,
    order_view,
    record_view,
)
from reconcile.decision.deletes import (
    approvable_delete,
    delete_change,
    delete_hindrance,
    not_its_order,
    two_way,
    unlinked_delete,
)
from reconcile.decision.findings import due_finding, finding, unread_finding
from reconcile.decision.matching.duplicates import differ
from reconcile.decision.matching.match import match
from reconcile.decision.matching.possible_locations import may_be_one, seen_elsewhere
from reconcile.decision.matching.sold_on import not_yet_sold_on, sold_on
from reconcile.decision.table import Cell, Verdict, cell


def plan(world: World, policy: Policy) -> Plan:
    """Match a world and decide every case; changes in the order of application."""
    return assemble(decide(case, world, policy) for case in match(world, policy))


def assemble(decisions: Iterable[Decision]) -> Plan:
    """The plan that decisions add up to; changes in the order of application."""
    changes: list[Change] = []
    findings: list[Finding] = []
    for decision in decisions:
        changes += decision.changes
        findings += decision.findings
    order = {kind: position for position, kind in enumerate(Kind)}
    changes.sort(key=lambda c: (order[c.kind], c.subject))
    return Plan(tuple(changes), tuple(sorted(findings, key=lambda f: (f.class_, f.subject))))


@dataclass(frozen=True, slots=True)
class Decision:
    """The changes and findings of one case, and the table's cell that led to them.

    ``waits``: something is under way (a call, a lock), so what was found of it before stands as it is.
    """

    cell: Cell
    waits: bool = False
    changes: list[Change] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def decide(case: Case, world: World, policy: Policy) -> Decision:
    """Decide one case. Total: every combination of views has a verdict; whatever is in doubt is held."""
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
    if _not_its_own(decision, case, world, policy):
        return decision
    if (unread := unread_finding(case, world, policy)) is not None:
        decision.findings.append(unread)
    if verdict.finding is not None and (found := due_finding(verdict, case, world, policy)) is not None:
        decision.findings.append(found)
        nobody_knows = found.class_ in ("unlinked-record", "order-vanished")
        if nobody_knows and (asked := unlinked_delete(case, world, policy)) is not None:
            decision.changes.append(asked)
    match verdict.verdict:
        case Verdict.CREATE:
            _create(decision, case, views, world, policy)
        case Verdict.REPAIR:
            _repair(decision, case, views, world, policy)
        case Verdict.DELETE:
            _delete(decision, case, world, policy)
        case _ if verdict.facts:
            _repair(decision, case, views, world, policy)
    return decision


def _not_its_own(decision: Decision, case: Case, world: World, policy: Policy) -> bool:
    """Whether a record's guest is another machine, another record's, or another order's: that is decided first."""
    if (unlink := _unlink(case, world)) is not None:
        decision.changes.append(unlink)
    elif case.duplicate is not None and case.record is not None:
        decision.changes.append(_merge(case, world))
    elif case.sold_to is not None and case.guest is not None:
        _sold_on(decision, case, case.sold_to, world, policy)
    else:
        return False
    return True


Views = tuple[OrderView, GuestView, RecordView]


# --- creates


def _create(decision: Decision, case: Case, views: Views, world: World, policy: Policy) -> None:
    order, guest = case.order, case.guest
    if order is None:
        return
    if order.user_id is None:
        reason = _unknown_owner(order)
        decision.findings.append(finding(case, "owner-unknown", reason))
        return
    if order.effective_at is None or order.first_seen_at is None:
        return
    if world.now - order.first_seen_at < policy.create_grace or _owner_seen_once(order, world):
        return
    missing = [
        n
        for n, v in (("name", order.name), ("cpu", order.cpu), ("ram", order.ram_mb), ("disk", order.disk_gb))
        if not v
    ]
    if missing:
        reason = f"the feed does not say {', '.join(missing)} of order {order.order_id}: no record can be made"
        decision.findings.append(finding(case, "incomplete-order", reason))
        return
    if guest is not None and guest.fingerprint_state not in (FingerprintState.READ, FingerprintState.FORBIDDEN):
        return  # its identity is read first; the next run creates
    link, power = _new_link(case), _new_power(case, views)
    status = {PowerState.RUNNING: "running", PowerState.STOPPED: "stopped", PowerState.ERROR: "error"}.get(
        power, "creating"
    )
    values = {
        "user_id": order.user_id,
        "name": order.name,
        "status": status,
        "cpu": order.cpu,
        "ram": order.ram_mb,
        "disk": order.disk_gb,
        "os": order.os or "unknown",
        "hypervisor": order.hypervisor or "proxmox",
        "ip_address": order.ip_address,
        "order_id": order.order_id,
        "panel_vps_id": order.panel_vps_id,  # a create under this id may be on its way
    }
    own_facts: dict[str, Any] = {"order_state": order.state.value}
    evidence: dict[str, Any] = {
        "order": order.order_id,
        "order_status": order.status,
        "first_seen_at": order.first_seen_at.isoformat(),
    }
    if guest is not None:
        evidence |= {"guest": str(guest.key), "guest_status": guest.status}
        own_facts |= {"power_source": "proxmox"}
    reason = f"order {order.order_id} is {order.state.value} and has no record: its create never arrived"
    decision.changes.append(
        Change(
            Kind.CREATE,
            "create",
            world.feed,
            reason,
            order=order,
            guest=guest,
            guest_key=case.guest_key,
            values=values,
            link=link,
            facts=own_facts,
            evidence=evidence,
            confirm=frozenset({"order"}),
        )
    )


def _unknown_owner(order: Order) -> str:
    if order.owner is None:
        return f"the feed names no owner of order {order.order_id}"
    return (
        f"the owner of order {order.order_id} is the main site's user {order.owner}, whom the panel does not know: "
        f"panel-sync users map PANEL_ID {order.owner}"
    )


def _owner_seen_once(order: Order, world: World) -> bool:
    """Whether an order that is known for longer has its owner since the last sweep only: that may be a mistake."""
    before, known, owned = world.previous_orders_at, order.first_seen_at, order.owner_since
    return before is not None and known is not None and owned is not None and known <= before < owned


def _new_link(case: Case) -> dict[str, Any]:
    guest = case.guest
    if guest is None:
        return {}
    verified = guest.fingerprint_state is FingerprintState.READ and guest.fingerprint is not None
    return {
        "cluster": guest.cluster,
        "node": guest.node,
        "vmid": guest.vmid,
        "guest_type": guest.guest_type.value,
        "fingerprint": guest.fingerprint if verified else None,
        "link_state": (LinkState.VERIFIED if verified else LinkState.UNVERIFIED).value,
    }


def _new_power(case: Case, views: Views) -> PowerState:
    if case.guest is not None:
        return case.guest.power
    if views[1] is GuestView.UNOBSERVABLE and case.order is not None:
        return (
            PowerState(case.order.status)
            if case.order.status in ("running", "stopped", "error")
            else PowerState.UNKNOWN
        )
    return PowerState.UNKNOWN


# --- repairs


def _repair(decision: Decision, case: Case, views: Views, world: World, policy: Policy) -> None:
    record, order, guest = case.record, case.order, case.guest
    if record is None:
        return
    if order is not None and "order" in decision.cell.facts:
        _order_facts(decision, case, world)
    # A template is the record's only if it is known to be what was sold.
    untold = views[1] is GuestView.TRANSITIONAL or (guest is not None and guest.template and record.fingerprint is None)
    if guest is not None and guest.cluster in world.trusted and not untold:
        # Whoever stands where the guest of an ended order stood is not looked up by address: it was let go of.
        ended = order is not None and order.state is OrderState.ENDED
        # Nor is one taken for it whose identity nobody read while the order went on: it may be the next machine.
        let_go = ended and record.guest_linked_once and (record.guest_key is None or record.fingerprint is None)
        let_go = let_go or (order is None and _unheard_of(record, guest, world))
        if not let_go and (linked := fact_updates.guest_link_update(guest, record, world)) is not None:
            # An order read before the machine was replaced would hand the next owner's machine to this one; nor
            # does an address say who it was at first, when nobody had read it.
            first = record.fingerprint is None
            named_by = order or (_naming(guest, world) if first else None)
            looked = "fingerprint" in linked.values or (first and "link_state" in linked.values)
            asks = (looked or record.guest_key is None) and (not first or (named_by is not None and world.has_feed))
            confirm = frozenset({"order"}) if asks else frozenset[str]()
            if record.guest_key not in (None, guest.key):
                confirm |= {"left"}
            decision.changes.append(_update(replace(case, order=named_by), Kind.LINK, "proxmox", linked, confirm))
        if "power" in decision.cell.facts and not let_go and _identified(case, world):
            _add(decision, case, Kind.STATUS, "proxmox", fact_updates.power_update(guest, record, policy))
    elif order is not None and views[1] is GuestView.UNOBSERVABLE and two_way(case, world):
        _add(decision, case, Kind.STATUS, world.feed, fact_updates.power_from_order(order, record, policy, world))
    if views[1] is GuestView.NONE_PROVEN and decision.cell.finding == "paid-but-missing":
        # A list that hides one guest, or an order read long ago, looks the same: both are asked for singly before
        # a client reads "error".
        confirm = frozenset({"guest", "order"})
        if (missing := _missing(case, world, policy)) is not None:
            change = _update(case, Kind.STATUS, "proxmox", missing, confirm)
            where = seen_elsewhere(record, case.guest_key, world) if case.guest_key is not None else ()
            decision.changes.append(replace(change, elsewhere=where))


def _unheard_of(record: Record, guest: Guest, world: World) -> bool:
    """Whether a call alone says that this guest is the record's, and nobody looked at it yet: the call may have been
    late, and the address the next machine's. An order that names the guest tells; without a feed nothing can."""
    unseen = record.link_state in (LinkState.PUSHED, LinkState.UNVERIFIED) and record.fingerprint is None
    return unseen and world.has_feed and _naming(guest, world) is None


def _naming(guest: Guest, world: World) -> Order | None:
    """The going order that names a guest."""
    naming = (o for o in world.orders if o.guest_key == guest.key and o.state is not OrderState.ENDED)
    return min(naming, key=lambda o: o.order_id, default=None)


def _order_facts(decision: Decision, case: Case, world: World) -> None:
    record, order = case.record, case.order
    if record is None or order is None or _by_name_only(order, record):
        return  # a name joins no record to an end
    _add(decision, case, Kind.LINK, world.feed, fact_updates.order_link_update(order, record))
    _add(decision, case, Kind.STATUS, world.feed, fact_updates.order_state_update(order, record, world))
    if order.state is OrderState.ENDED:
        return
    _add(decision, case, Kind.PLAN, world.feed, fact_updates.plan_update(order, record, world))
    if order.user_id is None and order.owner is not None:
        reason = _unknown_owner(order)
        decision.findings.append(finding(case, "owner-unknown", reason))
    elif order.user_id is not None and order.user_id != record.user_id:
        reason = f"order {order.order_id} belongs to another customer than VPS {record.id}"
        decision.findings.append(finding(case, "ownership", reason))
        owner = fact_updates.owner_update(order, record, world)
        _add(decision, case, Kind.OWNER, world.feed, owner, confirm=frozenset({"order"}))


def _by_name_only(order: Order, record: Record) -> bool:
    """Whether an ended order and a record were never linked."""
    return order.state is OrderState.ENDED and order.order_id != record.order_id and order.panel_vps_id != record.id


def _identified(case: Case, world: World) -> bool:
    """Whether the guest at the record's address may speak for it: no fact flows from a guest in doubt."""
    record, guest = case.record, case.guest
    if record is None or guest is None:
        return False
    if record.guest_key is None or (record.link_state is LinkState.PUSHED and world.has_feed):
        return False  # the link is written first, with its question; its power follows in the next run
    looked_at = guest.fingerprint_state in (FingerprintState.READ, FingerprintState.FORBIDDEN)
    return looked_at and record.fingerprint in (None, guest.fingerprint)


def _missing(case: Case, world: World, policy: Policy) -> fact_updates.FactUpdate | None:
    record, key = case.record, case.guest_key
    absence = world.guest_absences.get(key) if key else None
    if record is None or record.missing_since is not None or absence is None:
        return None
    if world.now - absence.absent_since < policy.paid_missing_grace:
        return None
    if key is not None and not all(
        policy.proven(world.guest_absences.get(k)) for k in seen_elsewhere(record, key, world)
    ):
        return None
    if may_be_one(record, world) is not None:
        return None
    values = {"missing_since": absence.absent_since, "unconfirmed_since": absence.absent_since}
    return fact_updates.FactUpdate(
        values, f"guest {key} is proven absent, yet paid for", {"snapshots": list(absence.evidence)}
    )


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
    if order is not None and not_its_order(order, record) is None:
        _add(decision, case, Kind.STATUS, world.feed, fact_updates.order_state_update(order, record, world))
    # Asked about once the record says what is known: an approval is for one version of it.
    if not decision.changes and (asked := approvable_delete(case, world, policy, why_not)) is not None:
        decision.changes.append(asked)


def _merge(case: Case, world: World) -> Change:
    if case.record is None or case.duplicate is None:
        raise ValueError("a merge needs two records")
    survivor, loser = case.record, case.duplicate
    order = case.order
    named = order.panel_vps_id if order is not None else None
    if named is None:
        # Without the feed's word: the id that updates used last, else the one answered last.
        ranked = sorted(
            (survivor, loser), key=lambda r: (r.last_update_at is not None, r.last_update_at or r.created_at, r.id)
        )
        loser, survivor = ranked
    reason = f"VPS {loser.id} and VPS {survivor.id} are one machine; both ids keep working"
    evidence = {"order": order.order_id if order else None, "survivor": survivor.id, "named_by_feed": named}
    # A merge cannot be undone: the order is asked once more which record it names, and of two guests one is looked for,
    # wherever it was seen.
    places = {p for r in (loser, survivor) if r.guest_key is not None for p in seen_elsewhere(r, r.guest_key, world)}
    confirm = frozenset({"order", "either"}) if differ(loser, survivor) else frozenset({"order"})
    return Change(
        Kind.MERGE,
        "merge",
        world.feed,
        reason,
        record=loser,
        other=survivor,
        order=order,
        guest_key=case.guest_key,
        evidence=evidence,
        confirm=confirm,
        elsewhere=tuple(sorted(places, key=str)),
    )


def _unlink(case: Case, world: World) -> Change | None:
    """Its address was given to another guest, and a going order names that guest: let go of it."""
    record, key = case.record, case.guest_key
    if not case.replaced or record is None or not record.live or key is None:
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
    return Change(
        Kind.UNLINK,
        "unlink",
        "proxmox",
        reason,
        record=record,
        order=case.order,
        claimant=other,
        guest_key=key,
        evidence=evidence,
        confirm=frozenset({"claimant"}),  # an order read long ago may name what was given away since
    )


def _sold_on(decision: Decision, case: Case, buyer: Order, world: World, policy: Policy) -> None:
    """The record's order goes on no more, and another one names its machine: nothing that the machine does now is shown
    to the record's customer, and the record lets go of it where an operator, or the policy, says so."""
    record, guest = case.record, case.guest
    if record is None or guest is None:
        return
    if case.order is not None:
        _order_facts(decision, case, world)
    who = "the same customer" if buyer.user_id == record.user_id else "another customer"
    over = (
        f"order {case.order.order_id} ended" if case.order is not None else f"VPS {record.id} has no order that goes on"
    )
    reason = f"{over}, and order {buyer.order_id} of {who} names its guest {guest.key}"
    why_not = not_yet_sold_on(case, buyer, world, policy)
    told = f"{reason}: nothing of it is shown to VPS {record.id}'s customer"
    told += f"; {why_not}" if why_not is not None else f"; it is the same machine ({guest.fingerprint})"
    severity = "warning" if buyer.user_id == record.user_id else None
    decision.findings.append(finding(case, "sold-on", told, severity))
    # Asked about once the record says what is known: an approval is for one version of it.
    if why_not is None and not decision.changes:
        decision.changes.append(sold_on(case, buyer, world, reason))


# --- building changes


def _update(
    case: Case, kind: Kind, source: str, update: fact_updates.FactUpdate, confirm: frozenset[str] = frozenset()
) -> Change:
    return Change(
        kind,
        "update",
        source,
        update.reason,
        record=case.record,
        order=case.order,
        guest=case.guest,
        guest_key=case.guest_key,
        values=update.values,
        evidence=update.evidence,
        confirm=confirm,
        flip=update.flip,
    )


def _add(
    decision: Decision,
    case: Case,
    kind: Kind,
    source: str,
    update: fact_updates.FactUpdate | None,
    confirm: frozenset[str] = frozenset(),
) -> None:
    if update is not None:
        decision.changes.append(_update(case, kind, source, update, confirm))
