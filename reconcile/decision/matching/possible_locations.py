"""Where a machine may be that is missed at its address: at another address, among guests whose identity is not known,
or in a cluster that was not read. Pure."""

from __future__ import annotations

from domain.guests import Guest, GuestKey
from domain.records import Record
from reconcile.decision.cases import Policy, World


def seen_elsewhere(record: Record, key: GuestKey, world: World) -> tuple[GuestKey, ...]:
    """The other addresses, in configured clusters, where the record's machine was last seen."""
    known = world.sightings.get(record.fingerprint, frozenset()) if record.fingerprint is not None else frozenset()
    return tuple(sorted((k for k in known if k != key and k.cluster in world.clusters), key=str))


def why_seen_elsewhere(record: Record, key: GuestKey, world: World, policy: Policy) -> str | None:
    """Why a record's machine that is gone from an address is not gone: it may have moved to another address where it
    was seen, and a list may have left it out there. None if it is proven gone from all of them."""
    for place in seen_elsewhere(record, key, world):
        if not policy.proven(world.guest_absences.get(place)):
            return f"the machine of VPS {record.id} was seen at {place}, and nothing proves that it is gone"
    return None


def why_maybe_elsewhere(record: Record, world: World) -> str | None:
    """Why a record's machine that is gone from its address may be at another one; None if it cannot be."""
    if (cluster := _unread_cluster(record, world)) is not None:
        return (
            f"cluster {cluster} was not read since the machine of VPS {record.id} was missed: it may have moved there"
        )
    if world.unidentified is None:
        return f"too many guests are not identified yet, and one may be the machine of VPS {record.id}"
    last = next((guest for guest in world.remembered if guest.key == record.guest_key), None)
    alike = next((guest for guest in world.unidentified if _may_be_machine_of(guest, record, last)), None)
    if alike is None:
        return None
    return f"the identity of guest {alike.key} is not known, and it may be the machine of VPS {record.id}"


def _unread_cluster(record: Record, world: World) -> str | None:
    absence = world.guest_absences.get(record.guest_key) if record.guest_key is not None else None
    for cluster in sorted(world.clusters - world.trusted):
        read = world.last_read.get(cluster)
        if read is None or absence is None or read <= absence.absent_since:
            return cluster
    return None


def _may_be_machine_of(guest: Guest, record: Record, last: Guest | None) -> bool:
    """Whether a guest fits what was sold, or what the record's machine was when it was last listed."""
    if guest.key == record.guest_key or guest.guest_type is not (record.guest_type or guest.guest_type):
        return False
    sizes = {(record.ram_mb, record.cpu)} | ({(last.memory_mb, last.cores)} if last is not None else set())
    size = any(guest.memory_mb in (None, memory) and guest.cores in (None, cores) for memory, cores in sizes)
    return size or guest.name in (None, record.name, last.name if last is not None else None)
