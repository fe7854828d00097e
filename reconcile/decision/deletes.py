"""Whether a delete that the table allows may be done: every guard must pass, or it is held with the reason. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from domain.absences import Absence
from domain.changes import Delete, DeleteOrphan
from domain.confirmations import Confirmation, GuestIsGone, GuestIsTheSameMachine, OrderIsOver
from domain.orders import Order, OrderState
from domain.records import LinkState, Record
from reconcile.decision.cases import Case, GuestView, Policy, World, guest_view, order_to_ask, seen_on_proxmox
from reconcile.decision.matching.guest_matching import was_read
from reconcile.decision.matching.possible_locations import seen_elsewhere, why_maybe_elsewhere, why_seen_elsewhere


def two_way(case: Case, world: World) -> bool:
    """Whether a case is decided by its order alone, because no Proxmox guest of it can be expected.

    That is so if no cluster is configured, or the record is not on Proxmox, or no source ever named its guest, or its
    guest was replaced and the record gave it up.
    """
    record, order = case.record, case.order
    if not world.clusters or record is None:
        return not world.clusters
    named = record.guest_key is not None and record.guest_key.cluster in world.clusters
    named = named or record.link_state is LinkState.CONFLICT  # of a guest that it may not have, or gave up unseen
    if record.hypervisor != "proxmox" and not named and not seen_on_proxmox(record):
        return True
    if order is None or case.guest_key is not None or record.guest_key is not None:
        return False
    return record.link_state is LinkState.UNLINKED and (record.guest_linked_once or order.guest_key is None)


def delete_change(case: Case, world: World, policy: Policy) -> Delete:
    """The delete of a case, with its evidence and the questions that the run asks just before it."""
    record, order, key = case.record, case.order, case.guest_key
    if record is None:
        raise ValueError("a delete needs a record")
    evidence: dict[str, Any] = {}
    confirm: list[Confirmation] = [*_orders_are_over(order, record, world)]
    observable = guest_view(case, world, policy) is GuestView.NONE_PROVEN
    if observable and key is not None:
        confirm.insert(0, GuestIsGone(record, key, seen_elsewhere(record, key, world), order_ended=_ended(order)))
        evidence |= {"guest": str(key), "replaced": case.replaced}
        evidence |= _absence_evidence("guest", world.guest_absences.get(key))
    template = case.guest is not None and case.guest.template
    if case.guest is not None and template:
        evidence |= {"guest": str(key), "template": True, "identity": case.guest.fingerprint}
        if record.fingerprint is not None:
            confirm.append(GuestIsTheSameMachine(record, case.guest.key))
    if order is not None:
        evidence |= {"order": order.order_id, "order_status": order.status}
        change, reason = Delete, f"order {order.order_id} ended and its guest is gone: a missed delete"
        if not observable:
            reason = f"order {order.order_id} ended: a missed delete (no guest can be observed)"
        if template:
            reason = f"order {order.order_id} ended, and its guest {key} is a template now: a missed delete"
    else:
        evidence |= {"order": record.order_id}
        evidence |= _absence_evidence("order", world.order_absences.get(record.order_id or ""))
        change, reason = DeleteOrphan, f"order {record.order_id} and its guest are both gone: an orphan"
        if template:
            reason = f"order {record.order_id} is gone, and guest {key} is a template now: an orphan"
    return change(
        source=world.feed,
        reason=reason,
        record=record,
        order=order,
        guest_key=key,
        evidence=evidence,
        confirm=tuple(confirm),
    )


def _orders_are_over(order: Order | None, record: Record, world: World) -> list[OrderIsOver]:
    """The questions to every order that the record may belong to: the case's, the one that the record is linked with,
    and those that name the record."""
    naming = sorted(o.order_id for o in world.orders if o.panel_vps_id == record.id)
    ids = dict.fromkeys((order_to_ask(order, record), record.order_id, *naming))
    return [OrderIsOver(order_id) for order_id in ids if order_id is not None]


def _ended(order: Order | None) -> bool:
    return order is not None and order.state is OrderState.ENDED


def approvable_delete(case: Case, world: World, policy: Policy, why: str) -> Delete | None:
    """The delete that waits for an operator's approval because of ``why``; None if something else stands against it,
    too."""
    if delete_hindrance(case, world, policy, by_approval=True) is not None:
        return None
    change = delete_change(case, world, policy)
    return replace(change, reason=f"{change.reason}; {why}", asks=why)


def unlinked_delete(case: Case, world: World, policy: Policy) -> DeleteOrphan | None:
    """A delete that only an operator can allow: of a record that no order is known for, or with a vanished order and no
    known guest. None while its guest may be there.

    Nothing proves that this delete is right. The run still looks up what it can before it: the order and the guest that
    the record names.
    """
    record, key = case.record, case.guest_key
    if record is None or case.order is not None or not world.has_feed:
        return None
    if world.orders_at is None or world.orders_at - record.created_at < policy.orphan_grace:
        return None  # its order may be on its way
    if record.protected_until is not None and record.protected_until > world.now:
        return None
    confirm: list[Confirmation] = [*_orders_are_over(None, record, world)]
    evidence: dict[str, Any] = {"order": record.order_id, "made_at": record.created_at.isoformat()}
    if guest_view(case, world, policy) is GuestView.NONE_PROVEN and key is not None:
        if _guest_hindrance(case, world, policy, by_approval=True) is not None:
            return None
        confirm.insert(0, GuestIsGone(record, key, seen_elsewhere(record, key, world), order_ended=False))
        evidence |= {"guest": str(key)} | _absence_evidence("guest", world.guest_absences.get(key))
    elif key is not None or record.guest_key is not None or not _lost_both(record, world):
        return None
    what = "has no order that is known"
    if record.order_id in world.order_absences:
        what = f"has no guest that is known, and its order {record.order_id} is not listed any more"
    why = f"VPS {record.id}, made {record.created_at:%Y-%m-%d}, {what}: deletable only by approval"
    return DeleteOrphan(
        source=world.feed,
        reason=why,
        record=record,
        guest_key=key,
        evidence=evidence,
        confirm=tuple(confirm),
        asks=why,
    )


def _lost_both(record: Record, world: World) -> bool:
    """Whether nobody can say which guest a record had: it is linked to none, or it is in conflict about one and a
    complete read of the orders missed its order, too."""
    disputed = record.link_state is LinkState.CONFLICT and record.order_id in world.order_absences
    return record.link_state is LinkState.UNLINKED or disputed


def _absence_evidence(what: str, absence: Absence | None) -> dict[str, Any]:
    if absence is None:
        return {}
    return {
        f"{what}_absent_since": absence.absent_since.isoformat(),
        f"{what}_absent_times": absence.consecutive,
        f"{what}_snapshots": list(absence.evidence),
    }


def delete_hindrance(case: Case, world: World, policy: Policy, *, by_approval: bool = False) -> str | None:
    """Why a delete must wait or be approved by an operator; None if nothing stands against it. ``by_approval``: leave
    out what an operator may overrule (an identity that was never read, a link that never was)."""
    record, order, view = case.record, case.order, guest_view(case, world, policy)
    if record is None:
        return "there is no record"
    if record.protected_until is not None and record.protected_until > world.now:
        return f"VPS {record.id} was restored and is protected until {record.protected_until.isoformat()}"
    foreign = why_not_its_order(order, record) if order is not None else None
    if (other := foreign or _template_hindrance(case, by_approval=by_approval)) is not None:
        return other
    if not world.has_feed:
        return "no main site is configured: nothing proves that the order is gone"
    overruled = by_approval and record.guest_key is None and case.guest_key is None
    if view is GuestView.UNOBSERVABLE and not two_way(case, world) and not overruled:
        return f"the order ended, but VPS {record.id} names no guest that could be looked for"
    if view is GuestView.UNOBSERVABLE and not world.clusters and seen_on_proxmox(record):
        return f"guest {record.guest_key} was seen on Proxmox, and no cluster is configured any more to look for it"
    if (
        view is GuestView.NONE_PROVEN
        and (hindrance := _guest_hindrance(case, world, policy, by_approval=by_approval)) is not None
    ):
        return hindrance
    if order is not None:
        return _ended_hindrance(case, order.effective_at, order.state_since, world, policy)
    absence = world.order_absences.get(record.order_id or "")
    never_linked = not record.order_linked_once or not record.guest_linked_once
    if absence is None or (never_linked and not by_approval):
        return f"VPS {record.id} was never linked to an order and a guest: deletable only by approval"
    if world.now - absence.absent_since < policy.orphan_grace:
        return f"order {record.order_id} vanished less than the orphan grace ago"
    if absence.absent_since <= record.order_changed_at or absence.absent_since <= record.link_changed_at:
        return f"VPS {record.id} changed after its order was first missed: the proof begins anew"
    return None


def _template_hindrance(case: Case, *, by_approval: bool) -> str | None:
    """Why a machine that was turned into a template stands against a delete: it still exists. Only an operator may
    allow the delete, once its identity was read."""
    guest = case.guest
    if guest is None or not guest.template or (by_approval and was_read(guest)):
        return None
    unread = "" if was_read(guest) else ", and its identity must be read again first"
    return f"guest {guest.key} is a template now{unread}: deletable only by approval"


def why_not_its_order(order: Order, record: Record) -> str | None:
    """Why an ended order may not be the record's own, so that its end is no reason to delete the record."""
    if order.user_id is None:
        return f"the owner of order {order.order_id}, which ended, is not known to the panel"
    if order.user_id != record.user_id:
        return f"order {order.order_id}, which ended, belongs to another customer than VPS {record.id}"
    if order.order_id != record.order_id and order.panel_vps_id != record.id:
        return f"order {order.order_id}, which ended, was never linked with VPS {record.id}: they fit by name only"
    return None


def _guest_hindrance(case: Case, world: World, policy: Policy, *, by_approval: bool) -> str | None:
    record = case.record
    if record is None or case.guest_key is None:
        return "no guest is known"
    if not by_approval and (record.fingerprint is None or record.link_state is not LinkState.VERIFIED):
        never = "was never verified" if record.fingerprint is None else "is not verified any more"
        return f"the identity of guest {case.guest_key} {never}"
    absence = world.guest_absences.get(case.guest_key)
    if absence is not None and absence.absent_since <= record.link_changed_at:
        return f"VPS {record.id} was linked anew after its guest was first missed"
    if (seen := why_seen_elsewhere(record, case.guest_key, world, policy)) is not None:
        return seen
    return None if by_approval else why_maybe_elsewhere(record, world)


def _ended_hindrance(
    case: Case, effective_at: datetime | None, state_since: datetime | None, world: World, policy: Policy
) -> str | None:
    record = case.record
    if record is None or effective_at is None or effective_at <= record.order_changed_at:
        if record is not None and record.order_state is OrderState.ENDED and effective_at == record.order_changed_at:
            return None  # this very read made the record's state "ended"
        return "the feed's word is older than the last sync call"
    # Without a guest to look for, the end of the order must have lasted for as long as a proof takes.
    young = state_since is None or world.now - state_since < policy.proof_t
    if young and guest_view(case, world, policy) is GuestView.UNOBSERVABLE:
        return "the order ended only just now"
    return None
