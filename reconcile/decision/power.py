"""The fast lane's decision: power and node of identified guests, nothing else. Pure.

It reads no order, so it cannot undo a suspension, create or delete.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain.changes import Change, ChangePlan, Link, SetStatus
from domain.guests import Guest
from domain.records import Record
from reconcile.decision.cases import Case, GuestView, Policy, World, guest_view
from reconcile.decision.fact_updates import guest_link_update, power_update

WRITABLE = {GuestView.RUNNING, GuestView.STOPPED, GuestView.ERROR}


def power_plan(pairs: Iterable[tuple[Record, Guest]], world: World, policy: Policy) -> ChangePlan:
    """What to write for linked pairs whose power or node differs."""
    changes: list[Change] = []
    for record, guest in pairs:
        if guest_view(Case(guest=guest, record=record, guest_key=guest.key), world, policy) not in WRITABLE:
            continue
        if (linked := guest_link_update(guest, record, world)) is not None:
            changes.append(
                Link(
                    source="proxmox",
                    reason=linked.reason,
                    record=record,
                    guest=guest,
                    guest_key=guest.key,
                    values=linked.values,
                    evidence=linked.evidence,
                )
            )
        if (turned := power_update(guest, record, policy)) is not None:
            changes.append(
                SetStatus(
                    source="proxmox",
                    reason=turned.reason,
                    record=record,
                    guest=guest,
                    guest_key=guest.key,
                    values=turned.values,
                    evidence=turned.evidence,
                    flip=turned.flip,
                )
            )
    return ChangePlan(tuple(changes), ())
