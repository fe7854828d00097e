"""Which orders lay claim to a guest by its address: that is given anew within seconds, and calls are late. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconcile.fitting import going, later
from reconcile.state import Guest, GuestKey, Order, Record


@dataclass(frozen=True, slots=True)
class Claims:
    """The orders, and the records that each of them has been paired with so far."""

    orders: Sequence[Order]
    paired: Mapping[str, Sequence[Record]]

    def by_going(self, key: GuestKey | None, order: Order | None) -> bool:
        """Whether another order, one that goes on, names this guest."""
        return any(o.guest_key == key and going(o) for o in self.orders if o is not order)

    def rival(self, order: Order, key: GuestKey) -> Order | None:
        """Another order with as good a right to this guest. Of two ended ones neither may take it; a going one minds
        an ended one only if that was made later: then the address had been given away, whatever became of it."""
        same = (o for o in self.orders if o is not order and o.guest_key == key)
        return next((o for o in same if going(o) or not going(order) or later(o, order)), None)

    def strange(self, record: Record, order: Order | None, guest: Guest) -> str | None:
        """Why a guest at which a record points without ever having seen who it is may be another one's machine."""
        names_it = order is not None and going(order) and order.guest_key == guest.key
        if order is not None and names_it:
            rival = self.rival(order, guest.key)
            if rival is not None:
                return f"orders {order.order_id} and {rival.order_id} name the same guest {guest.key}"
        elif (other := self._of_another(record, order, guest.key)) is not None:
            return f"order {other.order_id} names guest {guest.key}, and nothing says that it was VPS {record.id}'s"
        sold = order.guest_type if order is not None and names_it else None
        if (sold or record.guest_type or guest.guest_type) is not guest.guest_type:
            return f"guest {guest.key} is {guest.guest_type.value}, VPS {record.id} was sold as another type"
        return None

    def _of_another(self, record: Record, order: Order | None, key: GuestKey) -> Order | None:
        """A going order that names this guest and is not the record's own, by which the two could meet yet."""
        return next((o for o in self.orders if o is not order and o.guest_key == key and going(o)
                     and not (order is None and self._may_meet(o, record))), None)  # fmt: skip

    def _may_meet(self, order: Order, record: Record) -> bool:
        return record.order_id is None and order.user_id == record.user_id and not self.paired[order.order_id]
