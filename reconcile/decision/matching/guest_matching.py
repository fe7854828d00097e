"""Which guest is the machine of a record or an order, and why that may be in doubt. Pure.

A guest is found by its address and known by its fingerprint. VMIDs are reused, and calls, feeds and lists come late.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from domain.guests import FingerprintState, Guest, GuestKey
from domain.orders import Order, OrderState, fits_type
from domain.records import Record
from reconcile.decision.cases import Policy, World, gone_since_linked
from reconcile.decision.matching.address_claims import AddressClaims, Disputes
from reconcile.decision.matching.duplicates import clones, gone_everywhere
from reconcile.decision.matching.newcomers import Newcomers
from reconcile.decision.matching.order_traits import has_ended, later


class GuestMatching:
    """The guests of a world, by address. ``templates``: further ones that no order or record names; a sold machine may
    have become one. ``paired``: the records of each order so far. ``used``: the guests that belong to some order or
    record."""

    def __init__(
        self,
        world: World,
        policy: Policy,
        guests: Mapping[GuestKey, Guest],
        templates: Iterable[Guest],
        live: Mapping[int, Record],
        paired: Mapping[str, Sequence[Record]],
        claims: AddressClaims,
    ) -> None:
        self.world, self.policy = world, policy
        self.guests, self.live, self.paired, self.address_claims = guests, live, paired, claims
        self.clones = clones(guests.values())
        self.copies = self._copies()
        self.used: set[GuestKey] = set()
        self._holders: dict[GuestKey, list[Record]] = defaultdict(list)
        for record in live.values():
            if record.guest_key is not None:
                self._holders[record.guest_key].append(record)
        self.newcomers = Newcomers(world, policy)
        self.disputes = Disputes(guests, self._holders, claims, self.newcomers, has_feed=world.has_feed)
        self._by_fingerprint: dict[str, list[Guest]] = defaultdict(list)
        for guest in (*guests.values(), *templates):
            if guest.fingerprint is not None:
                self._by_fingerprint[guest.fingerprint].append(guest)

    def guest_of_order(self, order: Order) -> tuple[Guest | None, GuestKey | None, str | None]:
        """The guest that an order without a record names, unless another order's record holds it."""
        key = order.guest_key
        guest = self.guests.get(key) if key else None
        if key is None or guest is None:
            return None, key, None
        own = {r.id for r in self.paired[order.order_id]}  # two records of one order are merged, not rivals
        holder = next((r for r in self._holders.get(key, ()) if r.id not in own), None)
        if holder is not None:
            return None, key, f"guest {key} is linked to VPS {holder.id}"
        rival = self.address_claims.rival(order, key)
        if rival is not None:
            return (
                None,
                key,
                f"orders {order.order_id} and {rival.order_id} name guest {key}: let one name another",
            )
        self.used.add(key)
        if not fits_type(order, guest):
            return guest, key, f"guest {key} is {guest.guest_type.value}, but order {order.order_id} sold another type"
        doubt = self.address_claims.known_machine(guest, own) or self.clone_doubt(guest)
        return guest, key, doubt or self.newcomers.doubt(guest, order.guest_since)

    def guest_of_record(
        self, record: Record, order: Order | None
    ) -> tuple[Guest | None, GuestKey | None, bool, str | None]:
        """(guest, key, replaced, doubt) of a record: by its own link, else by its order, else by a call."""
        key = record.guest_key or (order.guest_key if order else None)
        guest = self.guests.get(key) if key else None
        if record.guest_key is None and key is not None and guest is not None and order is not None:
            if order.state is OrderState.ENDED and self.is_taken(key, order):
                return None, None, False, None  # never link an ended order's record to the next guest of its VMID
            return self._first_link(record, order, guest)
        if guest is None:
            return self._moved(record, order, key)
        self.used.add(key) if key else None
        if record.fingerprint is not None and guest.fingerprint is not None and guest.fingerprint != record.fingerprint:
            if guest.cluster not in self.world.trusted or guest.fingerprint_state is not FingerprintState.READ:
                return guest, key, False, f"the identity of guest {key} must be read again first"
            if order is not None and self._reinstalled(order, guest):
                return guest, key, False, self.clone_doubt(guest)
            return self._replaced(record, order, guest)
        if (why := _contradiction(record, guest)) is not None:
            return guest, key, False, why
        if record.fingerprint is None:
            trusted = guest.cluster in self.world.trusted
            other = self.address_claims.other_order_not_ended(record, order, guest.key)
            named_since = other is not None and (order is None or not later(order, other))
            listed = other is not None and other.order_id not in self.world.order_absences
            if trusted and listed and named_since and self._order_is_over(record, order):
                return None, key, True, None  # its identity was never read, and the address is the next order's
            why = (
                self.address_claims.why_not_own(record, order, guest)
                or self.address_claims.known_machine(guest, {record.id})
                or self.newcomers.doubt(guest, record.link_changed_at)
            )
            if why is not None:
                return guest, key, False, why
        elif guest.fingerprint_state is FingerprintState.FORBIDDEN and self.address_claims.named_by_order_not_ended(
            guest.key, order, record
        ):
            return guest, key, False, f"another order names {key}; its identity cannot be read: give the token VM.Audit"
        return guest, key, False, self.clone_doubt(guest)

    def _order_is_over(self, record: Record, order: Order | None) -> bool:
        """Whether a record's order ended, is proven to be gone, or was never listed although there was time for it."""
        if order is not None:
            return order.state is OrderState.ENDED
        if self.policy.proven(self.world.order_absences.get(record.order_id or "")):
            return True
        swept = self.world.orders_at
        never = record.order_id not in self.world.order_absences
        return never and swept is not None and swept - record.created_at >= self.policy.paid_missing_grace

    def is_taken(self, key: GuestKey, order: Order) -> bool:
        """Whether another record holds this guest, or another order that has not ended names it."""
        return key in self._holders or self.address_claims.named_by_order_not_ended(key, order)

    def is_other_machine(self, tombstone: Record | None, key: GuestKey) -> bool:
        """Whether the guest at an address has another fingerprint than the guest of a deleted record had."""
        before = tombstone.fingerprint if tombstone is not None else None
        now = guest.fingerprint if (guest := self.guests.get(key)) is not None else None
        return before is not None and now is not None and before != now

    def _reinstalled(self, order: Order, guest: Guest) -> bool:
        """A new machine at the old address. The same order has not ended and still names it, and it was sold to no
        other order."""
        return (
            not has_ended(order)
            and not guest.template
            and order.guest_key == guest.key
            and self._seen_long_enough(guest)
            and fits_type(order, guest)
            and self.address_claims.known_machine(guest, ()) is None
            and not self.address_claims.named_by_order_not_ended(guest.key, order)
            and not self.address_claims.may_be_of_guestless_order(order, guest)
        )

    def _seen_long_enough(self, guest: Guest) -> bool:
        """Whether a machine was seen twice, and a full sweep of the orders before this run's own began well after the
        first time. By then the order that it was sold for must be among them."""
        since, swept = guest.fingerprint_since, self.world.previous_orders_at
        if guest.fingerprint_seen < 2 or since is None or swept is None:
            return False
        return swept >= since + self.policy.link_grace

    def _first_link(
        self, record: Record, order: Order, guest: Guest
    ) -> tuple[Guest | None, GuestKey | None, bool, str | None]:
        other, key, doubt = self.guest_of_order(order)
        unread = guest.fingerprint is None and not was_read(guest)
        if doubt is None and record.fingerprint is not None and guest.fingerprint != record.fingerprint and not unread:
            doubt = f"guest {key} is not the guest that VPS {record.id} was linked to"
        return other, key, False, doubt

    def _moved(
        self, record: Record, order: Order | None, key: GuestKey | None
    ) -> tuple[Guest | None, GuestKey | None, bool, str | None]:
        """The record's guest is not at its address. It may be elsewhere: its VMID changed, or it moved to another
        cluster.

        A list that leaves the guest out may show a copy of it. So the guest counts as moved only once it is proven gone
        from its address.
        """
        if (claimed := self.disputes.claimed_guest(record, order)) is not None:
            self.used.add(claimed.key)
            return claimed, claimed.key, False, self.clone_doubt(claimed)
        left = record.guest_key
        watched = left is not None and left.cluster in self.world.clusters
        if left is not None and watched and not gone_since_linked(record, left, self.world, self.policy):
            return None, key, False, None
        same = self._by_fingerprint.get(record.fingerprint or "", ())  # it may be a template by now
        if same:
            return self._guest_seen_elsewhere(record, order, same)
        if left is not None and order is not None and not has_ended(order):
            if (replacement := self._replacement_guest(record, order, left)) is not None:
                self.used.add(replacement.key)
                return replacement, replacement.key, False, self.clone_doubt(replacement)
            own = {r.guest_key for r in self.paired[order.order_id]}
            if watched and order.guest_key in self.guests and order.guest_key not in own:
                return None, key, False, f"order {order.order_id} names {order.guest_key}, and {left} is gone"
        return None, key, False, None

    def _guest_seen_elsewhere(
        self, record: Record, order: Order | None, same: Sequence[Guest]
    ) -> tuple[Guest | None, GuestKey | None, bool, str | None]:
        """Guests with a record's fingerprint at other addresses: its machine, if there is one and no other record has
        it."""
        left, guest = record.guest_key, same[0]
        key = left or (order.guest_key if order is not None else None)
        if len(same) > 1:
            return None, key, False, "its fingerprint is seen on several guests: give each its own"
        named = order.guest_key if order is not None and order.guest_key != left else None
        free = guest.key not in self._holders and was_read(guest)
        free = free and not self.address_claims.named_by_order_not_ended(guest.key, order, record)
        # People copy MACs by hand, so a MAC counts only if the order names that guest.
        certain = named == guest.key or (named is None and (record.fingerprint or "").startswith("smbios:"))
        if free and certain:  # a guest at another address than the order names is a copy
            self.used.add(guest.key)
            return guest, guest.key, False, None
        also = f", and order {order.order_id} names {named}" if order is not None and named is not None else ""
        return None, key, False, f"its machine is seen at {guest.key}, which may be a copy{also}"

    def _replacement_guest(self, record: Record, order: Order, left: GuestKey) -> Guest | None:
        """The guest that the record's order names since the record's own guest is gone. None if the order has ended,
        another order claims that guest, or the old one may exist anywhere."""
        key, since = order.guest_key, order.guest_since
        guest = self.guests.get(key) if key is not None and key != left else None
        if guest is None or guest.template or has_ended(order) or guest.fingerprint_state is not FingerprintState.READ:
            return None
        if since is None or since <= record.link_changed_at or not self._seen_long_enough(guest):
            return None  # the order may still name an old address, which may be another machine's by now
        if not gone_everywhere(record, left, self.world, self.policy):
            return None
        if not fits_type(order, guest) or self.address_claims.known_machine(
            guest, {r.id for r in self.paired[order.order_id]}
        ):
            return None
        return None if self.is_taken(guest.key, order) else guest

    def _replaced(
        self, record: Record, order: Order | None, guest: Guest
    ) -> tuple[Guest | None, GuestKey | None, bool, str | None]:
        """Another machine stands at the record's address. Its own may be elsewhere: VMIDs are given anew at once."""
        doubt = self._replacement_doubt(record, order, guest)
        same = self._by_fingerprint.get(record.fingerprint or "", ())
        if doubt is None and same:
            return self._guest_seen_elsewhere(record, order, same)
        return None, guest.key, True, doubt

    def _replacement_doubt(self, record: Record, order: Order | None, guest: Guest) -> str | None:
        """Why a replaced guest is in doubt: always, unless the record's order is over, and the new guest was seen
        twice."""
        if self._order_is_over(record, order):
            return None if guest.fingerprint_seen >= 2 else f"guest {guest.key} was replaced only just now"
        if order is None:
            own = f"order {record.order_id}" if record.order_id is not None else "its order"
            return f"guest {guest.key} is another machine than VPS {record.id}'s, and nothing proves that {own} is over"
        return f"guest {guest.key} has another fingerprint than VPS {record.id} was linked with"

    def clone_doubt(self, guest: Guest) -> str | None:
        if (what := self.clones.get(guest.key)) is not None:
            return f"the {what} of guest {guest.key} is seen on another guest too: a clone; give one of them its own"
        if guest.key in self.copies:
            return f"the machine at {guest.key} is seen in another cluster too, for longer than a move takes: a copy"
        return None

    def _copies(self) -> set[GuestKey]:
        """The guests with a record's fingerprint that two clusters have listed for longer than a migration takes: those
        of both clusters."""
        ours = {r.fingerprint for r in self.live.values()}
        return {
            guest.key
            for guest in self.guests.values()
            if guest.fingerprint in ours
            and guest.moving_since is not None
            and self.world.now - guest.moving_since >= self.policy.moving_for
        }


def _contradiction(record: Record, guest: Guest) -> str | None:
    """Why a guest without a fingerprint may be another machine than the record's."""
    if record.fingerprint is None or guest.fingerprint is not None:
        return None
    if was_read(guest):
        return f"guest {guest.key} has nothing that shows whether it is VPS {record.id}'s"
    if (record.guest_type or guest.guest_type) is not guest.guest_type:
        return f"guest {guest.key} is {guest.guest_type.value} now, and VPS {record.id}'s was not"
    return None


def was_read(guest: Guest) -> bool:
    """Whether its configuration was read and is not in doubt."""
    return guest.fingerprint_state is FingerprintState.READ
