"""The fast lane's decision: power and node of identified guests, nothing else. Pure.

It reads no order, so it cannot undo a suspension, create or delete.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain.changes import Change, Kind, Plan
from domain.guests import Guest
from domain.records import Record
from reconcile.decision.cases import Case, GuestView, Policy, World, guest_view
from reconcile.decision.fact_updates import FactUpdate, guest_link_update, power_update

WRITABLE = {GuestView.RUNNING, GuestView.STOPPED, GuestView.ERROR}


def power_plan(pairs: Iterable[tuple[Record, Guest]], world: World, policy: Policy) -> Plan:
    """What to write for linked pairs whose power or node differs."""
    changes: list[Change] = []
    for record, guest in pairs:
        if guest_view(Case(guest=guest, record=record, guest_key=guest.key), world, policy) not in WRITABLE:
            continue
        updates: list[tuple[Kind, FactUpdate | None]] = [
            (Kind.LINK, guest_link_update(guest, record, world)),
            (Kind.STATUS, power_update(guest, record, policy)),
        ]
        changes += [
            Change(
                kind,
                "update",
                "proxmox",
                update.reason,
                record=record,
                guest=guest,
                guest_key=guest.key,
                values=update.values,
                evidence=update.evidence,
                flip=update.flip,
            )
            for kind, update in updates
            if update is not None
        ]
    return Plan(tuple(changes), ())
