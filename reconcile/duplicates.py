"""Whether two records are one machine: what speaks against it. A merge cannot be undone, so doubt keeps both. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconcile.cases import Policy, World
from reconcile.state import Guest, GuestKey, Order, Record


def differ(one: Record, other: Record) -> bool:
    """Whether two records were linked to two guests: at two addresses, or with two fingerprints."""
    keys, fingerprints = {one.guest_key, other.guest_key} - {None}, {one.fingerprint, other.fingerprint} - {None}
    return len(keys) > 1 or len(fingerprints) > 1


def two_machines(one: Record, other: Record, world: World, policy: Policy) -> str | None:
    """Why two records of one order may be two machines: each has a guest, and neither is proven gone."""
    if not differ(one, other):
        return None
    if any(policy.proven(world.guest_absences.get(key)) for key in (one.guest_key, other.guest_key) if key is not None):
        return None
    return f"VPS {one.id} (guest {one.guest_key}) and VPS {other.id} (guest {other.guest_key}) may be two machines"


def may_have_a_guest(
    record: Record, guests: Mapping[GuestKey, Guest], live: Iterable[Record], orders: Iterable[Order]
) -> bool:
    """Whether a guest that nobody names might be the machine this record was made for."""
    named = {r.guest_key for r in live} | {o.guest_key for o in orders}
    return any(
        guest.name == record.name
        or (guest.memory_mb in (None, record.ram_mb) and guest.cores in (None, record.cpu))
        or guest.first_seen_at is None
        or guest.first_seen_at > record.created_at
        for key, guest in guests.items()
        if key not in named
    )
