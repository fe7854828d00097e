"""One machine with two records, and two guests with one identity. A merge is final, so in doubt both stay. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from domain.guests import Guest, GuestKey
from domain.orders import Order
from domain.records import LinkState, Record
from reconcile.decision.cases import Policy, World, gone_since_linked
from reconcile.decision.matching.order_traits import has_ended, same_plan
from reconcile.decision.matching.possible_locations import seen_elsewhere, why_maybe_elsewhere

RETRIED_WITHIN = timedelta(hours=1)  # the main site repeats a call whose answer was lost within this time


def have_different_guests(record: Record, other: Record) -> bool:
    """Whether two records were linked to two guests: at two addresses, or with two fingerprints."""
    keys = {record.guest_key, other.guest_key} - {None}
    fingerprints = {record.fingerprint, other.fingerprint} - {None}
    return len(keys) > 1 or len(fingerprints) > 1


def why_two_machines(record: Record, other: Record, world: World, policy: Policy) -> str | None:
    """Why two records of one order may be two machines: they have two owners, or two guests and neither is proven
    gone. None if they are one machine."""
    if record.user_id != other.user_id:
        return "two records of one order have different owners"
    if not have_different_guests(record, other):
        return None
    gone = [r for r in (record, other) if r.guest_key is not None and gone_everywhere(r, r.guest_key, world, policy)]
    if gone:
        return next((why for r in gone if (why := why_maybe_elsewhere(r, world)) is not None), None)
    guests = f"VPS {record.id} (guest {record.guest_key}) and VPS {other.id} (guest {other.guest_key})"
    return f"{guests} may be two machines"


def gone_everywhere(record: Record, key: GuestKey, world: World, policy: Policy) -> bool:
    """Whether a record's machine is proven gone from its address and from everywhere else it was seen."""
    elsewhere = seen_elsewhere(record, key, world)
    return gone_since_linked(record, key, world, policy) and all(
        policy.proven(world.guest_absences.get(place)) for place in elsewhere
    )


class UnnamedGuests:
    """The guests that no order and no verified record names. An address that only a call named does not count:
    the guest may be the machine of the record in dispute over it. ``besides``: more such guests."""

    def __init__(
        self,
        guests: Mapping[GuestKey, Guest],
        live: Iterable[Record],
        orders: Iterable[Order],
        besides: Iterable[Guest],
    ) -> None:
        named = {r.guest_key for r in live if r.link_state is LinkState.VERIFIED} | {o.guest_key for o in orders}
        unnamed = [guest for key, guest in guests.items() if key not in named]
        unnamed += besides
        self._names = {guest.name for guest in unnamed}
        self._sizes = {(guest.memory_mb, guest.cores) for guest in unnamed}
        seen_first = [guest.first_seen_at for guest in unnamed]
        self._ageless = None in seen_first
        self._newest = max((seen for seen in seen_first if seen is not None), default=None)

    def may_have_machine_of(self, record: Record) -> bool:
        """Whether one of them may be the machine that this record was made for."""
        sizes = {(memory, cores) for memory in (None, record.ram_mb) for cores in (None, record.cpu)}
        younger = self._newest is not None and self._newest > record.created_at
        return self._ageless or younger or record.name in self._names or not sizes.isdisjoint(self._sizes)


def order_of_twin(record: Record, namesakes: Iterable[Order], paired: Mapping[str, Sequence[Record]]) -> Order | None:
    """The only order that a never-linked record could belong to, if that order has one other record, made within an
    hour of this one. ``namesakes``: the orders of the same customer and name."""
    fitting = [o for o in namesakes if not has_ended(o) and (same_plan(o, record) or not paired[o.order_id])]
    if len(fitting) != 1 or not same_plan(fitting[0], record):
        return None
    owned = paired[fitting[0].order_id]
    if len(owned) != 1 or owned[0].user_id != record.user_id or owned[0].guest_key is None:
        return None
    return fitting[0] if abs(owned[0].created_at - record.created_at) <= RETRIED_WITHIN else None


def clones(guests: Iterable[Guest]) -> dict[GuestKey, str]:
    """The guests whose fingerprint or identity tag appears twice in one cluster, and which of the two it is."""
    seen: dict[tuple[str, str], list[GuestKey]] = defaultdict(list)
    for guest in guests:
        for mark in guest.marks:
            seen[guest.cluster, f"tag {mark}"].append(guest.key)
        if guest.fingerprint is not None:
            seen[guest.cluster, guest.fingerprint].append(guest.key)
    return {
        key: what if what.startswith("tag ") else "fingerprint"
        for (_, what), keys in seen.items()
        if len(keys) > 1
        for key in keys
    }
