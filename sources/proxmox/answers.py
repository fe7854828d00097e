"""What a Proxmox VE endpoint answers, as values: nodes and quorum, privileges, lists, configurations. Pure.

Only ``membership_of`` raises. Where anything else cannot be read, its value says so.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Interface
from typing import NamedTuple, TypeVar

from domain.guests import GuestType, ListedGuest, PowerState, power_of
from domain.source_protocols import GuestConfig
from sources.outgoing.faults import Malformed

GUEST_PRIVILEGE = "VM.Audit"
NO_QUORUM = "the cluster has no quorum: what it lists may be frozen"
GRANT_GUESTS = "pveum acl modify {path} --tokens '<token id>' --roles PVEAuditor"
GRANT_STATUS = "pveum acl modify / --tokens '<token id>' --roles PVEAuditor"

_MIB = 1024**2
_GIB = 1024**3
_TEXT_MAX = 255
_QEMU_DISK = re.compile(r"(?:scsi|virtio|sata|ide)[0-9]{1,2}")
_LXC_DISK = re.compile(r"rootfs|mp[0-9]{1,3}")
_NIC = re.compile(r"net([0-9]{1,2})")
_CLOUD_INIT = re.compile(r"ipconfig([0-9]{1,2})")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([KMGT]?)")
_UNIT_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_COUNT_MAX = 2**31 - 1
_VMID_MAX = 999_999_999
_QEMU, _LXC = GuestType.QEMU, GuestType.LXC

NumberT = TypeVar("NumberT", int, float)


@dataclass(frozen=True, slots=True)
class Membership:
    """The cluster as the answering node sees it. ``quorate`` is True for a standalone host."""

    nodes: frozenset[str]
    online: frozenset[str]
    quorate: bool

    @property
    def offline(self) -> frozenset[str]:
        return self.nodes - self.online

    def doubt(self) -> str | None:
        """Why reads through this node prove no absence from the whole cluster. None: nothing speaks against them."""
        if not self.quorate:
            return NO_QUORUM
        if self.offline:
            return f"node(s) offline: {', '.join(sorted(self.offline))}"
        return None


def membership_of(data: object) -> Membership:
    """Read ``/cluster/status``; raises ``Malformed``."""
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise Malformed("/cluster/status is not a list of entries")
    clusters = [entry for entry in data if entry.get("type") == "cluster"]
    nodes = [entry for entry in data if entry.get("type") == "node"]
    names = [_text(entry.get("name")) for entry in nodes]
    if not names or None in names:
        raise Malformed("/cluster/status names no nodes")
    # A standalone host has one node and no cluster entry. Anything else without such an entry is half an answer.
    if len(clusters) > 1 or len(set(names)) != len(names) or (not clusters and len(names) != 1):
        raise Malformed("/cluster/status contradicts itself")
    if clusters and clusters[0].get("nodes", len(names)) != len(names):
        raise Malformed("/cluster/status does not list all of its nodes")
    return Membership(
        nodes=frozenset(str(name) for name in names),
        online=frozenset(str(entry["name"]) for entry in nodes if _is_set(entry.get("online"))),
        quorate=not clusters or _is_set(clusters[0].get("quorate")),
    )


def holds(data: object, path: str, privilege: str) -> bool:
    """Whether ``/access/permissions?path=`` shows the privilege, propagating to what lies below.

    The value 1 means that it propagates. 0 covers the path itself and none of the guests below it.
    """
    if not isinstance(data, dict):
        return False
    own = data.get(path)
    if isinstance(own, dict):
        return _is_set(own.get(privilege))
    above = [held for asked, held in data.items() if asked == "/" or path.startswith(f"{asked}/")]
    return any(isinstance(held, dict) and _is_set(held.get(privilege)) for held in above)


def version_of(data: object) -> str | None:
    """The version's text from ``/version``, if it is one."""
    version = data.get("version") if isinstance(data, dict) else None
    return version if isinstance(version, str) and re.fullmatch(r"[\w.~+-]{1,40}", version) else None


def version_problem(version: str | None) -> str | None:
    """What is known to be wrong with this version's lists: they show what exists but prove no absence."""
    if version is None:
        return "the version of Proxmox VE could not be read, so nothing counts as absent"
    if re.fullmatch(r"9\.0\.[0-7](?:\D.*)?", version):
        return (
            f"Proxmox VE {version} answers large lists in tens of seconds, so nothing counts as absent: "
            "update it to 9.0.8 or later"
        )
    return None


def _is_set(flag: object) -> bool:
    return flag in (1, True, "1")


@dataclass(frozen=True, slots=True)
class Listed:
    """A listing's readable guests, and the nodes of entries that cannot be believed.

    ``blurred``: nodes with an unreadable or doubled entry, so that absence from them proves nothing. None stands for
    an entry that names no node.
    """

    guests: tuple[ListedGuest, ...]
    blurred: frozenset[str | None]


def guests_of(cluster: str, data: object) -> Listed | None:
    """Read ``/cluster/resources?type=vm``; ``None`` if it is not a list."""
    if not isinstance(data, list):
        return None
    by_vmid: dict[int, list[ListedGuest]] = {}
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


def _guest(cluster: str, entry: object) -> ListedGuest | None:
    if not isinstance(entry, dict):
        return None
    said = entry.get
    vmid, name, uptime = _vmid(said("vmid")), _text(said("name")), _amount(_number(said("uptime")))
    shared = map(said, _SHARED)
    try:
        kind = _kind(*shared)
    except TypeError:  # a list or an object where a plain value belongs
        kind = _kind.__wrapped__(*map(said, _SHARED))
    if vmid is None or kind is None:
        return None
    guest_type, node, status, power, rest = kind
    # Proxmox says 0 of a stopped guest, too.
    shown_uptime = uptime if uptime or power is PowerState.RUNNING else None
    return ListedGuest(cluster, vmid, guest_type, node, status, power, name, *rest, shown_uptime)


_SHARED = ("type", "node", "status", "lock", "template", "maxcpu", "maxmem", "maxdisk", "tags")


class _Kind(NamedTuple):
    """What guests of one kind have in common. ``rest``: those fields of ``ListedGuest`` from ``lock`` to ``tags``."""

    guest_type: GuestType
    node: str
    status: str
    power: PowerState
    rest: tuple[str | None, bool, float | None, int | None, int | None, tuple[str, ...]]


@lru_cache(maxsize=4_096, typed=True)  # all of this is alike in most of a cluster's thousands of guests
def _kind(
    kind: object, node: object, status: object, lock: object, template: object,
    cpus: object, memory: object, disk: object, tags: object,
) -> _Kind | None:  # fmt: skip
    """What ``_SHARED`` says of a guest; None if its type, node or status cannot be read."""
    node, status = _text(node), _text(status)
    if kind not in ("qemu", "lxc") or node is None or status is None:
        return None
    guest_type = _QEMU if kind == "qemu" else _LXC
    rest = (
        _text(lock), _is_set(template), _amount(_number(cpus)) or None, _units(memory, _MIB), _units(disk, _GIB),
        _tags(tags),
    )  # fmt: skip
    return _Kind(guest_type, node, status, power_of(guest_type, status), rest)


def is_silent(guest: ListedGuest) -> bool:
    """Whether Proxmox has no report of the guest's state."""
    return guest.status == "unknown"


def _vmid(value: object) -> int | None:
    if type(value) is int and 0 < value <= _VMID_MAX:  # as Proxmox writes it
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value <= _VMID_MAX else None


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not 0 < len(value) <= _TEXT_MAX or not value.isprintable():
        return None
    return value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return None
    return float(value)


def _units(value: object, unit: int) -> int | None:
    """A byte count in whole units, rounded; None if nothing was reported, or more than any machine has."""
    number = _number(value)
    return _amount(round(number / unit)) or None if number else None


def _amount(number: NumberT | None) -> NumberT | None:
    """The number, or None if PostgreSQL has no room for it."""
    return None if number is None or number > _COUNT_MAX else number


def _tags(value: object) -> tuple[str, ...]:
    return _split_tags(value) if isinstance(value, str) else ()


@lru_cache(maxsize=4_096)  # most guests have the tags of others
def _split_tags(value: str) -> tuple[str, ...]:
    if not value.isprintable():
        return ()
    return tuple(tag for tag in re.split(r"[;,\s]+", value.lower()) if 0 < len(tag) <= _TEXT_MAX)


def read_config(node: str, guest_type: GuestType, data: object) -> GuestConfig | None:
    """Read ``/nodes/{node}/{type}/{vmid}/config``; ``None`` if it is not a configuration."""
    if not isinstance(data, dict):
        return None
    is_qemu = guest_type is GuestType.QEMU
    return GuestConfig(
        fingerprint=_smbios(data) if is_qemu else _first_mac(data),
        node=node,
        cores=_qemu_cores(data) if is_qemu else _positive(data.get("cores")),
        memory_mb=_memory_mb(data.get("memory")),
        disk_gb=_disk_gb(data, _QEMU_DISK if is_qemu else _LXC_DISK),
        name=_text(data.get("name" if is_qemu else "hostname")),
        ip_address=_first_ip(data, _CLOUD_INIT if is_qemu else _NIC),
    )


def unreadable(node: str) -> GuestConfig:
    """The result for a guest whose configuration the token may not read."""
    return GuestConfig(fingerprint=None, node=node, cores=None, memory_mb=None, disk_gb=None, forbidden=True)


def _smbios(data: dict[object, object]) -> str | None:
    """``smbios:<uuid>``: the one property of a VM that the next VM with its VMID does not share."""
    text = _options(data.get("smbios1")).get("uuid", "")
    try:
        identity = uuid.UUID(text)
    except ValueError:
        return None
    return f"smbios:{identity}" if identity.int else None


def _first_mac(data: dict[object, object]) -> str | None:
    """``mac:<address>`` of the lowest-numbered interface that has one."""
    nics = {int(found[1]): value for key, value in data.items() if (found := _NIC.fullmatch(str(key)))}
    for _, value in sorted(nics.items()):
        address = _options(value).get("hwaddr", "").lower()
        if _MAC.fullmatch(address):
            return f"mac:{address}"
    return None


def _first_ip(data: dict[object, object], keys: re.Pattern[str]) -> str | None:
    """The fixed IPv4 address of the lowest-numbered interface that has one, not one that DHCP gives."""
    nics = {int(found[1]): value for key, value in data.items() if (found := keys.fullmatch(str(key)))}
    for _, value in sorted(nics.items()):
        with contextlib.suppress(ValueError):
            return str(IPv4Interface(_options(value).get("ip", "")).ip)
    return None


def _qemu_cores(data: dict[object, object]) -> float | None:
    cores, sockets = _positive(data.get("cores", 1)), _positive(data.get("sockets", 1))
    return None if cores is None or sockets is None else _amount(cores * sockets)


def _memory_mb(value: object) -> int | None:
    """MiB, given as a number, as text, or as ``current`` in a property string."""
    if isinstance(value, str) and not value.isdigit():
        value = _options(value).get("current")
    number = _positive(value)
    return None if number is None else int(number)


def _disk_gb(data: dict[object, object], slots: re.Pattern[str]) -> int | None:
    """All volumes together in GiB, without CD drives and volumes of unknown size."""
    total = 0.0
    for key, value in data.items():
        options = _options(value) if slots.fullmatch(str(key)) else {}
        if options.get("media") == "cdrom":
            continue
        size = _SIZE.fullmatch(options.get("size", ""))
        if size is not None:
            total += float(size[1]) * _UNIT_BYTES[size[2]]
    return max(1, round(total / 1024**3)) if 0 < total <= _COUNT_MAX * 1024**3 else None


def _options(value: object) -> dict[str, str]:
    """``a,b=c`` as ``{"b": "c"}``."""
    if not isinstance(value, str):
        return {}
    return {key: text for key, equals, text in (part.partition("=") for part in value.split(",")) if equals}


def _positive(value: object) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}(?:\.[0-9]{1,3})?", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value <= _COUNT_MAX else None
