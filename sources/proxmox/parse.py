"""Entries of ``/cluster/resources`` and of node lists as ``domain.guests.Guest``. Pure; never raises."""

from __future__ import annotations

import re
from dataclasses import dataclass

from domain.guests import Guest, GuestType, PowerState, power_of

_MIB = 1024**2
_GIB = 1024**3
_TEXT_MAX = 255


@dataclass(frozen=True, slots=True)
class Listed:
    """A listing's readable guests, and the nodes of entries that cannot be believed.

    ``blurred``: nodes with an unreadable or doubled entry, so that absence from them proves nothing. None stands for
    an entry that names no node.
    """

    guests: tuple[Guest, ...]
    blurred: frozenset[str | None]


def guests_of(cluster: str, data: object) -> Listed | None:
    """Read ``/cluster/resources?type=vm``; ``None`` if it is not a list."""
    if not isinstance(data, list):
        return None
    by_vmid: dict[int, list[Guest]] = {}
    blurred: set[str | None] = set()
    for entry in data:
        if isinstance(entry, dict) and entry.get("type") not in ("qemu", "lxc", None):
            continue  # a node or storage, from a server that does not know the filter
        guest = _guest(cluster, entry)
        if guest is None:
            node = entry.get("node") if isinstance(entry, dict) else None
            blurred.add(node if isinstance(node, str) and node else None)
        else:
            by_vmid.setdefault(guest.vmid, []).append(guest)
    for same in by_vmid.values():
        if len(same) > 1:  # a VMID is unique in its cluster, so neither entry can be believed
            blurred.update(guest.node for guest in same)
    return Listed(tuple(same[0] for same in by_vmid.values() if len(same) == 1), frozenset(blurred))


def vmids_of(data: object) -> frozenset[int] | None:
    """The VMIDs of a node's own list; ``None`` if any entry cannot be read."""
    if not isinstance(data, list):
        return None
    vmids = [_vmid(entry.get("vmid")) if isinstance(entry, dict) else None for entry in data]
    known = frozenset(vmid for vmid in vmids if vmid is not None)
    return known if len(known) == len(vmids) else None


def _guest(cluster: str, entry: object) -> Guest | None:
    if not isinstance(entry, dict):
        return None
    vmid, kind = _vmid(entry.get("vmid")), entry.get("type")
    node, status = _text(entry.get("node")), _text(entry.get("status"))
    if vmid is None or kind not in ("qemu", "lxc") or node is None or status is None:
        return None
    guest_type = GuestType(kind)
    lock = _text(entry.get("lock"))
    cores = _number(entry.get("maxcpu"))
    power, uptime = power_of(guest_type, status, lock), _number(entry.get("uptime"))
    return Guest(
        cluster=cluster,
        vmid=vmid,
        guest_type=guest_type,
        node=node,
        status=status,
        power=power,
        name=_text(entry.get("name")),
        lock=lock,
        template=entry.get("template") in (1, True, "1"),
        cores=cores or None,
        memory_mb=_units(entry.get("maxmem"), _MIB),
        disk_gb=_units(entry.get("maxdisk"), _GIB),
        tags=_tags(entry.get("tags")),
        uptime_s=uptime if uptime or power is PowerState.RUNNING else None,  # Proxmox says 0 of a stopped guest, too
    )


def is_silent(guest: Guest) -> bool:
    """Whether Proxmox has no report of the guest's state."""
    return guest.status == "unknown"


def _vmid(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value <= 999_999_999 else None


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not 0 < len(value) <= _TEXT_MAX or not value.isprintable():
        return None
    return value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return None
    return float(value)


def _units(value: object, unit: int) -> int | None:
    """A byte count in whole units, rounded; None if nothing was reported."""
    number = _number(value)
    return round(number / unit) or None if number else None


def _tags(value: object) -> tuple[str, ...]:
    if not isinstance(value, str) or not value.isprintable():
        return ()
    return tuple(tag for tag in re.split(r"[;,\s]+", value.lower()) if 0 < len(tag) <= _TEXT_MAX)
