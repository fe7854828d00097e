"""What becomes of the queued calls of one VPS, if nothing about them is unusual. Pure.

A set holds only queues that have nothing to do with each other, nor with any other record. So it does not matter in
which order they are applied. What an order or a guest of another VPS has a part in, and what raises a finding or ends
dead, is decided call by call (:mod:`panel.journal.writer`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from panel.journal.call_sets.effects import (
    Address,
    QueuedCall,
    claims_guest,
    created,
    deleted,
    newly_named_guests,
    superseded,
    updated,
)
from panel.journal.rows import difference, summary
from panel.records.projection import Row


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended. ``result``, ``old`` and ``new`` if it was applied, otherwise ``reason``."""

    id: int
    state: str
    result: str | None = None
    reason: str | None = None
    old: Mapping[str, Any] | None = None
    new: Mapping[str, Any] | None = None


@dataclass(slots=True)
class QueueOutcome:
    """What is to be written for one VPS."""

    vps_id: int
    before: Row | None
    row: Row | None
    """The record as it will be. It is ``before`` itself if no call changed it."""
    applied_seq: int = 0
    is_deleted: bool = False
    ended: list[Ended] = field(default_factory=list)
    claims: dict[str, int] = field(default_factory=dict)
    """Order id -> the operation that linked the order with the VPS."""
    doubted: set[Address] = field(default_factory=set)


class UnusualError(Exception):
    """The calls of this VPS must be applied one by one."""


def order_name(order_id: str) -> str:
    """An order among the names that VPSes may share."""
    return f"order:{order_id}"


def guest_name(address: Address) -> str:
    """A guest among the names that VPSes may share."""
    return f"guest:{address[0]}/{address[1]}"


def orders_of(row: Row | None, calls: Iterable[QueuedCall]) -> set[str]:
    """The orders that the record has or a call names."""
    named = {call.payload.get("order_id") for call in calls} | {row["order_id"] if row else None}
    return {order_id for order_id in named if order_id is not None}


def guests_of(row: Row | None, calls: Iterable[QueuedCall]) -> set[Address]:
    """The guests that the record has or a call names."""
    named = {(call.payload.get("cluster"), call.payload.get("vmid")) for call in calls}
    named |= {(row["cluster"], row["vmid"])} if row else set()
    return {(cluster, vmid) for cluster, vmid in named if cluster is not None and vmid is not None}


def shared(named: Iterable[Iterable[str]]) -> set[str]:
    """The names that more than one VPS names. ``named``: the names of each VPS."""
    return {name for name, count in Counter(name for names in named for name in set(names)).items() if count > 1}


def decide(vps_id: int, row: Row | None, calls: Sequence[QueuedCall], taken: set[str]) -> QueueOutcome:
    """Decide the queued calls of a VPS in their order. ``taken``: names that are, or may be, another's. Raises
    UnusualError."""
    outcome = QueueOutcome(vps_id, row, row)
    for call in calls:
        before = outcome.row
        after = _after(before, call, outcome, taken)
        if after is None:
            state, reason = superseded(before)
            outcome.ended.append(Ended(call.id, state, reason=reason))
        else:
            old, new = difference(before, after)
            outcome.ended.append(Ended(call.id, "applied", summary(before, after), old=old, new=new))
            outcome.row = after
        outcome.applied_seq = call.seq
    return outcome


def _after(row: Row | None, call: QueuedCall, outcome: QueueOutcome, taken: set[str]) -> Row | None:
    """The record after this call; None if the call may not change it."""
    match call.action:
        case "create" if row is None:
            _require_free(call.payload.get("order_id"), taken)
            after = created(call)
        case "update" if row is not None and row["deleted_at"] is None:
            after = _update(row, call, outcome, taken)
        case "delete" if row is not None and row["deleted_at"] is None:
            if call.payload.get("order_id") is not None and row["order_id"] not in (None, call.payload["order_id"]):
                raise UnusualError
            outcome.is_deleted = True
            return deleted(row, call) | {"version": row["version"] + 1}
        case _:
            return None
    outcome.doubted.update(newly_named_guests(call.payload, row))
    if claims_guest(after) and guest_name((after["cluster"], after["vmid"])) in taken:
        raise UnusualError
    return after


def _update(row: Row, call: QueuedCall, outcome: QueueOutcome, taken: set[str]) -> Row:
    order_id = call.payload.get("order_id")
    if call.payload.get("user_id") not in (None, row["user_id"]):
        raise UnusualError
    if order_id is not None and order_id != row["order_id"]:
        if row["order_id"] is not None:
            raise UnusualError
        _require_free(order_id, taken)
        outcome.claims[order_id] = call.id
    return updated(row, call, call.payload) | {"version": row["version"] + 1}


def _require_free(order_id: str | None, taken: set[str]) -> None:
    if order_id is not None and order_name(order_id) in taken:
        raise UnusualError
