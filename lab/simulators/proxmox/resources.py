"""The bulk list as a real cluster shows it, made from fakepve's list. Pure."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from lab.simulators.proxmox.guests import Guest

Item = dict[str, Any]

# The only keys of a guest that no node has reported lately.
KNOWN_WITHOUT_STATUS = ("id", "vmid", "node", "type", "tags", "lock", "hastate", "pool")

FORMER_UPTIME_S = 86_400
"""The uptime in old reports: the former guest had been running for a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCache:
    """The values in the cluster's status cache that are not fresh reports.

    `kept`: by VMID, the last status of guests on nodes that went offline. `silent`: the guests without any status.
    `former`: by reused VMID, the former guest, whose values an old report still shows.
    """

    kept: Mapping[int, str] = field(default_factory=dict)
    silent: AbstractSet[int] = frozenset()
    former: Mapping[int, Guest] = field(default_factory=dict)
    all_silent: bool = False


def bulk_entry(guest: Guest) -> Item:
    """A guest's entry with the fields that do not change by themselves."""
    entry: Item = {
        "id": f"{guest.type}/{guest.vmid}",
        "vmid": guest.vmid,
        "node": guest.node,
        "type": guest.type,
        "name": guest.name,
        "status": guest.status,
        "template": int(guest.template),
        "maxcpu": guest.cores,
        "maxmem": guest.memory_mb * 1024**2,
        "maxdisk": guest.disk_gb * 1024**3,
    }
    optional = {"tags": guest.tags, "lock": guest.lock}
    return entry | {key: value for key, value in optional.items() if value}


def guest_entry(item: Item, qemu_status: str | None, cache: StatusCache) -> Item:
    """One guest's entry. `qemu_status`: QEMU's own state (None for containers)."""
    vmid = item["vmid"]
    if cache.all_silent or vmid in cache.silent:
        return {**{key: item[key] for key in KNOWN_WITHOUT_STATUS if key in item}, "status": "unknown"}
    entry = {**item, "status": cache.kept.get(vmid, qemu_status or item["status"])}
    former = cache.former.get(vmid)
    if former is not None:
        old = bulk_entry(former)
        entry |= {key: old[key] for key in ("name", "status", "maxcpu", "maxmem", "maxdisk")}
        entry["uptime"] = FORMER_UPTIME_S if former.status == "running" else 0
    return entry


def by_vmid_as_text(entries: list[Item]) -> list[Item]:
    """Guests sorted like the real list: 100, 1000, 101. Other entries come after them."""
    guests = [entry for entry in entries if "vmid" in entry]
    return sorted(guests, key=lambda e: str(e["vmid"])) + [entry for entry in entries if "vmid" not in entry]
