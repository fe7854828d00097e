"""Records for which a call named a guest that another record held, and whether each may have that guest by now. Pure.

The main site never took the call back, so it counts once nothing stands against it. Until then a finding says what
does, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domain.guests import Guest, GuestKey
from domain.orders import Order
from domain.records import Record
from reconcile.decision.matching.address_claims import AddressClaims
from reconcile.decision.matching.order_traits import going


class Disputes:
    """The guests of a world by address, the records that hold them, and all claims to them."""

    def __init__(
        self,
        guests: Mapping[GuestKey, Guest],
        holders: Mapping[GuestKey, Sequence[Record]],
        claims: AddressClaims,
        *,
        has_feed: bool,
    ) -> None:
        self.guests, self.holders, self.address_claims, self.has_feed = guests, holders, claims, has_feed

    def settled(self, record: Record, order: Order | None) -> Guest | None:
        """The guest that the call named, if no other record holds it by now and the record's order names none
        itself."""
        key = record.claimed_key
        if key is None or (order is not None and order.guest_key is not None):
            return None
        return None if self._against(record, order, key) is not None else self.guests.get(key)

    def told(self, record: Record, order: Order | None) -> str | None:
        """What stands against it and what to do, as a sentence; None without a dispute."""
        key = record.claimed_key
        if key is None:
            return None
        if order is not None and going(order) and order.guest_key not in (None, key):
            return f"a call named guest {key} for VPS {record.id}, and order {order.order_id} names {order.guest_key}"
        why = self._against(record, order, key)
        return f"guest {key}, which a call named for VPS {record.id}, {why}; {_remedy(order)}" if why else None

    def _against(self, record: Record, order: Order | None, key: GuestKey) -> str | None:
        guest = self.guests.get(key)
        if holder := next(iter(self.holders.get(key, ())), None):
            return f"is VPS {holder.id}'s"
        if order is None and self.has_feed:
            return "has no record, and no order of that VPS is known"
        if order is not None and not going(order):
            return f"has no record, and order {order.order_id} ended"
        if other := self.address_claims.of_another(record, order, key):
            return f"is named by order {other.order_id}"
        if rival := self.address_claims.claiming(key, record):
            return f"may be another's: a call named it for VPS {rival.id}, too"
        if guest is None:
            return "does not exist"
        if order is not None and not self.address_claims.of_type(order, guest):
            return f"is {guest.guest_type.value}, and order {order.order_id} sold another type"
        if (known := self.address_claims.known(guest, {record.id})) is not None:
            return f"is another's: {known}"
        return None


def _remedy(order: Order | None) -> str:
    if order is None:
        return "let the main site send its order, or delete it"
    if not going(order):
        return "its delete waits in `panel-sync held`"
    return f"let order {order.order_id} name its own guest, or send an update with its cluster and vmid"
