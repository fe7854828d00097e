"""Guests of whom nobody knows who they are: one of them may be a machine that is missed elsewhere. Pure."""

from __future__ import annotations

from reconcile.cases import World
from reconcile.state import Guest, Record


def may_be_one(record: Record, world: World) -> str | None:
    """Why a record's machine, gone from its address, may be there under another one; None if it cannot."""
    if world.unidentified is None:
        return f"so many guests are not looked at yet that one may be the machine of VPS {record.id}"
    one = next((guest for guest in world.unidentified if _alike(guest, record)), None)
    if one is None:
        return None
    return f"nobody knows who guest {one.key} is, and it may be the machine of VPS {record.id}"


def _alike(guest: Guest, record: Record) -> bool:
    if guest.key == record.guest_key or guest.guest_type is not (record.guest_type or guest.guest_type):
        return False
    size = guest.memory_mb in (None, record.ram_mb) and guest.cores in (None, record.cpu)
    return size or guest.name in (None, record.name)
