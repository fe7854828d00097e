"""Which orders and records claim a guest by its address, and when a disputed claim counts. Pure.

VMIDs are reused within seconds, and calls come late.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from domain.guests import FingerprintState, Guest, GuestKey
from domain.left_out import LeftOut
from domain.orders import Order, fits_type, may_be_on_proxmox
from domain.records import LinkState, Record
from reconcile.decision.matching.newcomers import Newcomers
from reconcile.decision.matching.order_traits import has_ended, later, maybe_later


class AddressClaims:
    """The orders that are listed or not proven gone, the records paired with each of them so far, all live records, and
    what was not loaded."""

    def __init__(
        self,
        orders: Sequence[Order],
        paired: Mapping[str, Sequence[Record]],
        live: Iterable[Record],
        left_out: LeftOut,
    ) -> None:
        self.paired, self._left_out = paired, left_out
        self._live = tuple(live)
        self._orders_by_guest: dict[GuestKey | None, list[Order]] = defaultdict(list)
        for order in orders:
            self._orders_by_guest[order.guest_key].append(order)
        self._by_fingerprint: dict[str | None, list[Record]] = defaultdict(list)
        self._claiming: dict[GuestKey, list[Record]] = defaultdict(list)
        for record in self._live:
            self._by_fingerprint[record.fingerprint].append(record)
            if record.claimed_key is not None:
                self._claiming[record.claimed_key].append(record)

    def named_by_order_not_ended(self, key: GuestKey, order: Order | None, record: Record | None = None) -> bool:
        """Whether another order that has not ended names this guest. ``record``: of an order that is not listed."""
        return any(not has_ended(o) for o in self._others(key, order, record))

    def with_fingerprint(self, fingerprint: str | None) -> Sequence[Record]:
        """All live records with this fingerprint."""
        return self._by_fingerprint.get(fingerprint, ()) if fingerprint is not None else ()

    def record_claiming(self, key: GuestKey, record: Record) -> Record | None:
        """Another live record for which a call named this guest while a third one held it."""
        return next((r for r in self._claiming.get(key, ()) if r is not record), None)

    def orders_naming(self, key: GuestKey | None) -> Sequence[Order]:
        """All orders that name this guest; None: orders that name no guest."""
        return self._orders_by_guest.get(key, ())

    def _others(self, key: GuestKey, order: Order | None, record: Record | None = None) -> list[Order]:
        """Orders that name a guest, but the case's own one. That of a record may be missed, and then is no case's."""
        own = record.order_id if order is None and record is not None else None
        return [o for o in self.orders_naming(key) if o is not order and (own is None or o.order_id != own)]

    def rival(self, order: Order, key: GuestKey) -> Order | None:
        """Another order that names this guest, too, and because of which ``order`` may not take it. Any order that has
        not ended is one. An ended order is one if ``order`` has ended as well, or was made before it: the address was
        given to the later order afterwards."""
        others = self._others(key, order)
        return next((o for o in others if not has_ended(o) or has_ended(order) or later(o, order)), None)

    def why_not_own(self, record: Record, order: Order | None, guest: Guest) -> str | None:
        """Why the guest at a record's address may be another order's machine; None if nothing says so. Asked about
        records without a fingerprint only: any other record shows by its fingerprint which machine is its own."""
        names_it = order is not None and not has_ended(order) and order.guest_key == guest.key
        claimant = self.record_claiming(guest.key, record)
        if claimant is not None and guest.fingerprint is None and guest.fingerprint_state in READ_IN_VAIN:
            return (
                f"a call named guest {guest.key} for VPS {claimant.id}, and VPS {record.id} has it: its identity "
                "cannot be read, so it may be the machine of either"
            )
        if order is not None and names_it:
            rival = self.rival(order, guest.key)
            if rival is not None:
                return f"orders {order.order_id} and {rival.order_id} name guest {guest.key}: let one name another"
        elif (other := self.other_order_not_ended(record, order, guest.key)) is not None:
            return f"order {other.order_id} names guest {guest.key}, and nothing shows that it was VPS {record.id}'s"
        elif order is not None and _names_elsewhere(order, record):
            named = f"order {order.order_id} names guest {order.guest_key}"
            return f"{named}, but a call linked VPS {record.id} to {guest.key}"
        sold = order.guest_type if order is not None and names_it else None
        if (sold or record.guest_type or guest.guest_type) is not guest.guest_type:
            return f"guest {guest.key} is {guest.guest_type.value}, but VPS {record.id} was sold as another type"
        return None

    def may_be_of_guestless_order(self, order: Order, guest: Guest) -> bool:
        """Whether a guest may have been sold to a later order that has not ended and names no guest yet, or may belong
        to a record for which a call named a taken address. Where nobody knows which order was made later, it may."""
        disputed = self._left_out.disputed or any(r.link_state is LinkState.CONFLICT for r in self._live)
        elsewhere = any(
            type_ in (None, guest.guest_type)
            and (made_at is None or order.created_at is None or made_at > order.created_at)
            for type_, made_at in self._left_out.guestless_orders.items()
        )
        return (
            disputed
            or elsewhere
            or any(
                not has_ended(o) and maybe_later(o, order) and may_be_on_proxmox(o) and fits_type(o, guest)
                for o in self.orders_naming(None)
                if not any(r.fingerprint is not None for r in self.paired[o.order_id])
            )
        )

    def known_machine(self, guest: Guest, own: Collection[int]) -> str | None:
        """A sentence that names the live record, other than those of ``own``, whose machine a guest is by its
        fingerprint. None if there is no such record."""
        holder = next((r for r in self.with_fingerprint(guest.fingerprint) if r.id not in own), None)
        if holder is None:
            return None
        return f"the machine at {guest.key} is, by its fingerprint, VPS {holder.id}'s ({holder.guest_key})"

    def other_order_not_ended(self, record: Record, order: Order | None, key: GuestKey) -> Order | None:
        """Another order that has not ended, names this guest and cannot turn out to be the record's own."""
        others = (o for o in self._others(key, order, record) if not has_ended(o))
        return next((o for o in others if order is not None or not self._may_be_own(o, record)), None)

    def sold_to(self, record: Record, order: Order | None) -> Order | None:
        """The order, not ended, that names a record's guest while the record's own order ended, vanished or was never
        known. The machine may be the next customer's by now. Of several such orders the first by id."""
        if record.guest_key is None or (order is not None and not has_ended(order)):
            return None
        others = [o for o in self._others(record.guest_key, order, record) if not has_ended(o)]
        others = [o for o in others if not self._may_be_own(o, record)]
        return min(others, key=lambda o: o.order_id, default=None)

    def _may_be_own(self, order: Order, record: Record) -> bool:
        return record.order_id is None and order.user_id == record.user_id and not self.paired[order.order_id]


READ_IN_VAIN = (FingerprintState.READ, FingerprintState.FORBIDDEN)
"""A guest without a fingerprint in one of these states will have none after the next read either."""


def _names_elsewhere(order: Order, record: Record) -> bool:
    """Whether an order that has not ended, and was read after a record got its address, names another address."""
    read_since = order.effective_at is not None and order.effective_at > record.link_changed_at
    return not has_ended(order) and order.guest_key not in (None, record.guest_key) and read_since


# --- disputes


class Disputes:
    """Records for which a call named a guest that another record held, and whether each may have that guest by now.

    The main site never took such a call back, so it counts once nothing stands against it. Until then a finding says
    what stands against it, and what to do. ``guests``: by address. ``holders``: the records that hold an address.
    """

    def __init__(
        self,
        guests: Mapping[GuestKey, Guest],
        holders: Mapping[GuestKey, Sequence[Record]],
        claims: AddressClaims,
        newcomers: Newcomers,
        *,
        has_feed: bool,
    ) -> None:
        self.guests, self.holders, self.address_claims, self.has_feed = guests, holders, claims, has_feed
        self.newcomers = newcomers

    def claimed_guest(self, record: Record, order: Order | None) -> Guest | None:
        """The guest that the call named, if no other record holds it by now and the record's order names none
        itself."""
        key = record.claimed_key
        if key is None or (order is not None and order.guest_key is not None):
            return None
        return None if self._against(record, order, key) is not None else self.guests.get(key)

    def message(self, record: Record, order: Order | None) -> str | None:
        """What stands against a record's claim and what to do, as a sentence; None without a dispute."""
        key = record.claimed_key
        if key is None:
            return None
        if order is not None and not has_ended(order) and order.guest_key not in (None, key):
            return f"a call named guest {key} for VPS {record.id}, and order {order.order_id} names {order.guest_key}"
        why = self._against(record, order, key)
        return f"guest {key}, which a call named for VPS {record.id}, {why}; {_remedy(order)}" if why else None

    def _against(self, record: Record, order: Order | None, key: GuestKey) -> str | None:
        guest = self.guests.get(key)
        if holder := next(iter(self.holders.get(key, ())), None):
            return f"is VPS {holder.id}'s"
        if order is None and self.has_feed:
            return "has no record, and no order of that VPS is known"
        if order is not None and has_ended(order):
            return f"has no record, and order {order.order_id} ended"
        if other := self.address_claims.other_order_not_ended(record, order, key):
            return f"is named by order {other.order_id}"
        if rival := self.address_claims.record_claiming(key, record):
            return f"may be another's: a call named it for VPS {rival.id}, too"
        if guest is None:
            return "does not exist"
        if order is not None and not fits_type(order, guest):
            return f"is {guest.guest_type.value}, and order {order.order_id} sold another type"
        if (known := self.address_claims.known_machine(guest, {record.id})) is not None:
            return f"is another's: {known}"
        if self.newcomers.may_be_sold_to_another(guest, record.link_changed_at):
            return "came after that call: the orders must be read twice first"
        return None


def _remedy(order: Order | None) -> str:
    if order is None:
        return "let the main site send its order, or delete it"
    if has_ended(order):
        return "its delete waits in `panel-sync held`"
    return f"let order {order.order_id} name its own guest, or send an update with its cluster and vmid"
