"""When a finding of the table is due, and how it reads. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from domain.changes import SEVERITY, Finding
from domain.guests import FingerprintState, Guest, PowerState
from domain.identity_doubts import WHY, Doubt
from domain.orders import OrderState
from domain.records import Record
from reconcile.decision.cases import Case, Policy, World
from reconcile.decision.table import Cell

UNLISTED = (
    "it was identified before and is not listed any more, and nothing proves it gone: its node left the cluster, or "
    "the list of its node is not complete"
)


def due_finding(verdict: Cell, case: Case, world: World, policy: Policy) -> Finding | None:
    """The cell's finding, if its grace is over. Its severity is higher if it has stood for too long."""
    class_ = verdict.finding
    if class_ is None or not _read_since_deleted(case, policy) or not _DUE.get(class_, _always)(case, world, policy):
        return None
    if class_ in _REMOVABLE:
        late = class_ == "ended-but-running" and _since(_state_since(case), world, policy.ended_retention)
        reason = verdict.reason + (" (longer than it is kept)" if late else "")
        return finding(case, class_, f"{reason}; {_removal_advice(case, world)}", "alarm" if late else None)
    if class_ == "guest-unseen" and _identified(case):
        return finding(case, class_, f"{verdict.reason}; {UNLISTED}", "alarm")
    return finding(case, class_, verdict.reason)


_REMOVABLE = {"ended-but-running", "guest-without-order", "deleted-but-alive"}
"""Findings after which an operator may remove the guest. So they say which machine it is, and what else names it."""

READ_LATELY = timedelta(hours=1)
"""How old a guest's configuration may be when a finding calls the guest removable. If its record's order has ended, it
is read every half hour; that of other guests comes up in the rolling read."""


def _removal_advice(case: Case, world: World) -> str:
    """Which machine the guest is, by its own configuration, and whether an operator may remove it."""
    guest, record, key = case.guest, case.record, case.guest_key
    if guest is None or key is None:
        return "do not remove the guest there: it is not listed now"
    read = guest.fingerprint_state is FingerprintState.READ and guest.fingerprint is not None
    if (
        not read
        or not _since(guest.fingerprint_read_at, world, timedelta(0))
        or (_since(guest.fingerprint_read_at, world, READ_LATELY))
    ):
        return f"do not remove guest {key}: its identity was not read within the hour"
    mine = record.fingerprint if record is not None else None
    if mine is not None and mine != guest.fingerprint:
        return f"do not remove guest {key}: it is {guest.fingerprint} now, and the machine that was sold is {mine}"
    if others := _others(case, world):
        return f"do not remove guest {key} ({guest.fingerprint}): {' and '.join(others)} name it, too"
    if mine is None:
        return f"guest {key} is {guest.fingerprint}; no record says whether this is the machine that was sold"
    return f"guest {key} is {guest.fingerprint}, the machine that was sold, and no other order or record names it"


def _others(case: Case, world: World) -> list[str]:
    """The other orders that name a case's guest and have not ended, also those that are missed, and the other live
    records that name it, for which a call named it, or that have its fingerprint."""
    guest = case.guest
    if guest is None:
        return []
    orders = [o for o in world.claiming_orders if o.guest_key == guest.key and o.state is not OrderState.ENDED]
    records = [r for r in world.records if r.live and _names(r, guest)]
    names = [f"order {o.order_id}" for o in sorted(orders, key=lambda o: o.order_id) if o is not case.order]
    return names + [f"VPS {r.id}" for r in sorted(records, key=lambda r: r.id) if r is not case.record]


def _names(record: Record, guest: Guest) -> bool:
    same_machine = record.fingerprint is not None and record.fingerprint == guest.fingerprint
    return same_machine or guest.key in (record.guest_key, record.claimed_key)


def unread_finding(case: Case, world: World, policy: Policy) -> Finding | None:
    """A finding about a listed guest whose identity cannot be read: Proxmox refuses it now, or gave no answer for long.
    None for a guest that no run has asked about since it changed: its turn comes later, and
    :mod:`domain.config_read_delays` watches how long that takes."""
    guest, record, order = case.guest, case.record, case.order
    if guest is None or guest.cluster not in world.trusted or guest.power is PowerState.UNKNOWN:
        return None
    known = record is not None and record.live and record.fingerprint is not None
    if guest.fingerprint_state is FingerprintState.FORBIDDEN and record is not None and known:
        same = guest.fingerprint == record.fingerprint
        so = "it still counts as the machine that it was" if same else "it may be another machine by now"
        reason = f"the identity of guest {guest.key} may not be read any more (HTTP 403), and {so}"
        return finding(case, "unverified-guest", f"{reason}; give the token VM.Audit on /vms")
    matters = (record is not None and record.live) or (order is not None and order.state is not OrderState.ENDED)
    unread = guest.fingerprint_state in (FingerprintState.UNREAD, FingerprintState.STALE)
    since = max((t for t in (guest.changed_at, guest.doubted_at) if t is not None), default=None)
    tried = since is not None and guest.fingerprint_tried_at is not None and guest.fingerprint_tried_at >= since
    if matters and unread and tried and _since(since, world, policy.paid_missing_grace):
        why = WHY[Doubt(guest.doubt)] if guest.doubt is not None else "it was listed as it is now"
        reason = f"the identity of guest {guest.key} could not be read since {why}: nothing is written from it"
        return finding(case, "unverified-guest", reason)
    return None


def finding(case: Case, class_: str, reason: str, severity: str | None = None) -> Finding:
    """A finding about a case, named by its record, else its order, else its guest."""
    order, record, key = case.order, case.record, case.guest_key
    if record is not None:
        subject = f"vps:{record.id}"
    elif order is not None:
        subject = f"order:{order.order_id}"
    else:
        subject = f"guest:{key}"
    return Finding(
        class_,
        subject,
        reason,
        severity or SEVERITY.get(class_, "warning"),
        vps_id=record.id if record else None,
        order_id=order.order_id if order else record.order_id if record else None,
        cluster=key.cluster if key else None,
        vmid=key.vmid if key else None,
    )


def _state_since(case: Case) -> datetime | None:
    return case.order.state_since if case.order else None


def _since(moment: datetime | None, world: World, grace: timedelta) -> bool:
    return moment is not None and world.now - moment >= grace


def _always(_case: Case, _world: World, _policy: Policy) -> bool:
    return True


def _stuck(case: Case, world: World, policy: Policy) -> bool:
    return _since(_state_since(case), world, policy.stuck_creating)


def _read_since_deleted(case: Case, policy: Policy) -> bool:
    """Whether the order and the guest of a deleted record were read after the delete and its grace. What was read
    before may only be a feed that lags. An order that ended contradicts nothing, and may not be listed any more, so its
    read does not count."""
    if case.record is None or case.record.deleted_at is None:
        return True
    since = case.record.deleted_at + policy.deleted_alive_grace
    goes_on = case.order is not None and case.order.state is not OrderState.ENDED
    reads = [case.order.effective_at] if case.order is not None and goes_on else []
    reads += [case.guest.read_at] if case.guest is not None else []
    return all(read is not None and read > since for read in reads)


def _unlinked(case: Case, world: World, policy: Policy) -> bool:
    record = case.record
    if record is None or not world.has_feed:
        return False
    if record.order_id in world.order_absences:
        return False  # its order was listed before and is absent now: the proof of that is under way
    if world.orders_at is not None and world.orders_at - record.created_at >= policy.link_grace:
        return True
    # Where the orders are never read completely, no sweep will ever prove it: the operator must know.
    return world.now - record.created_at >= policy.paid_missing_grace


def _unmanaged(case: Case, world: World, policy: Policy) -> bool:
    return case.guest is None or _since(case.guest.first_seen_at, world, policy.create_grace)


def _missing(case: Case, world: World, policy: Policy) -> bool:
    if case.record is not None:
        return case.record.live or _since(case.record.deleted_at, world, policy.paid_missing_grace)
    if case.order is None:
        return True
    return _since(case.order.first_seen_at, world, policy.paid_missing_grace)


def _unproven_for_long(case: Case, world: World, policy: Policy) -> bool:
    """A proof takes minutes. After a day without one, no proof is under way: the guest may never have been listed."""
    return _since(_state_since(case), world, policy.orphan_grace)


def _never_seen(case: Case, world: World, policy: Policy) -> bool:
    """A guest that was identified once and is not listed has a proof under way, unless its absence is not counted."""
    if not _identified(case):
        return _since(_state_since(case), world, policy.paid_missing_grace)
    unlisted = world.unlisted.get(case.guest_key) if case.guest_key is not None else None
    return _since(unlisted, world, policy.paid_missing_grace)


def _identified(case: Case) -> bool:
    return case.record is not None and case.record.fingerprint is not None


_DUE: dict[str, Callable[[Case, World, Policy], bool]] = {
    "stuck-creating": _stuck,
    "delete-held": _unproven_for_long,
    "guest-unseen": _never_seen,
    "unlinked-record": _unlinked,
    "unmanaged-guest": _unmanaged,
    "paid-but-missing": _missing,
}
