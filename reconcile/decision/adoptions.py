"""Operators' adoptions as a run takes them: the order counts as if it named the guest. Pure.

So an adopted guest is linked by the same rules, limits and confirmations as one that an order names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from domain.adoptions.decision import Adoption, Judgement, Stands, judge
from domain.adoptions.permission import Around
from domain.changes import Create, Link
from domain.confirmations import GuestIsTheSameMachine
from domain.guests import Guest, GuestKey
from domain.orders import Order
from domain.records import Record
from reconcile.decision.cases import World
from reconcile.decision.matching.order_traits import has_ended

C = TypeVar("C", Create, Link)

OPERATOR = "operator"
"""The source of a link that follows an adoption. A new record's facts are the order's, and so is its source."""


def heed(world: World, adoptions: Iterable[Adoption]) -> tuple[World, Mapping[int, Judgement]]:
    """The world as the adoptions that stand make it, and what the run makes of each adoption, by its id.

    Nothing of an adoption that waits or lapses is in the world.
    """
    adoptions = tuple(adoptions)
    if not adoptions:
        return world, {}
    known = _Known(world)
    judged: dict[int, Judgement] = {}
    standing: dict[str, Adoption] = {}
    for adoption in adoptions:
        guest, order = known.guests.get(adoption.key), known.orders.get(adoption.order_id)
        around = known.around(guest, order) if guest is not None and order is not None else Around()
        judged[adoption.id] = judge(adoption, guest, order, around, world.now)
        if isinstance(judged[adoption.id], Stands):
            standing[adoption.order_id] = adoption
    orders = tuple(_named(order, standing.get(order.order_id)) for order in world.orders)
    return replace(world, orders=orders, adoptions=standing), judged


def _named(order: Order, adoption: Adoption | None) -> Order:
    if adoption is None:
        return order
    key, since = adoption.key, adoption.adopted_at
    return replace(order, cluster=key.cluster, vmid=key.vmid, guest_type=adoption.guest_type, guest_since=since)


class _Known:
    """The world by what ties its objects together, so that no adoption is compared with all of them."""

    def __init__(self, world: World) -> None:
        self.guests = {guest.key: guest for guest in world.guests}
        self.orders = {order.order_id: order for order in world.orders}
        self._records = {record.id: record for record in world.records}
        self._deleted: dict[str | None, list[Record]] = defaultdict(list)  # by order and by fingerprint
        for record in world.records:
            if not record.live and record.merged_into is None:
                for name in {record.order_id, record.fingerprint}:
                    self._deleted[name].append(record)
        self._by_order: dict[str, list[Record]] = defaultdict(list)
        self._by_tie: dict[GuestKey | str, list[Record]] = defaultdict(list)
        for record in filter(lambda r: r.live, world.records):
            if record.order_id is not None:
                self._by_order[record.order_id].append(record)
            for tie in {record.guest_key, record.claimed_key, record.fingerprint} - {None}:
                self._by_tie[tie].append(record)  # type: ignore[index]
        self._naming: dict[GuestKey, list[str]] = defaultdict(list)
        for order in world.claiming_orders:
            if order.guest_key is not None and not has_ended(order):
                self._naming[order.guest_key].append(order.order_id)
        self._by_fingerprint: dict[str | None, list[GuestKey]] = defaultdict(list)
        for guest in world.guests:
            self._by_fingerprint[guest.fingerprint].append(guest.key)

    def around(self, guest: Guest, order: Order) -> Around:
        """What else the world has of them."""
        named = self._resolve(order.panel_vps_id)
        own = {record.id: record for record in (*self._by_order[order.order_id], *named) if record.live}
        over = (
            *self._deleted[order.order_id],
            *named,
            *(self._deleted[guest.fingerprint] if guest.fingerprint else ()),
        )
        holding = (*self._by_tie[guest.key], *(self._by_tie[guest.fingerprint] if guest.fingerprint else ()))
        others = {record.id: record for record in holding if record.id not in own}
        twins = self._by_fingerprint[guest.fingerprint] if guest.fingerprint is not None else ()
        return Around(
            own=tuple(own.values()),
            others=tuple(others.values()),
            naming=tuple(id_ for id_ in self._naming[guest.key] if id_ != order.order_id),
            twins=tuple(key for key in twins if key != guest.key),
            deleted=tuple({record.id: record for record in over if not record.live}.values()),
        )

    def _resolve(self, record_id: int | None) -> tuple[Record, ...]:
        """The record that the order names, or into which the one that it names was merged."""
        seen: set[int] = set()
        record = self._records.get(record_id) if record_id is not None else None
        while record is not None and record.merged_into is not None and record.id not in seen:
            seen.add(record.id)
            record = self._records.get(record.merged_into)
        return (record,) if record is not None and record.merged_into is None else ()


def followed(change: C, order: Order | None, world: World) -> C:
    """The change with the operator's word, if it links a guest that was adopted into ``order``.

    The reason names nobody: it is logged, and the main site is told it. Who it was, and why, is in the evidence.
    Just before it is written the run asks the guest once more which machine it is.
    """
    adoption = world.adoptions.get(order.order_id) if order is not None else None
    guest = change.guest
    if adoption is None or guest is None or guest.key != adoption.key or "fingerprint" not in change.values:
        return change
    told = {
        "adoption": adoption.id,
        "adopted_by": adoption.adopted_by,
        "adopted_at": adoption.adopted_at.isoformat(),
        "adopted_because": adoption.reason,
    }
    return replace(
        change,
        source=change.source if isinstance(change, Create) else OPERATOR,
        reason=f"{change.reason}; an operator adopted guest {guest.key} into order {adoption.order_id}",
        evidence={**change.evidence, **told},
        confirm=(*change.confirm, GuestIsTheSameMachine(guest, guest.key)),
        adoption=adoption.id,
    )
