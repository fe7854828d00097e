"""Identity and size from a guest's own configuration. Pure; never raises."""

from __future__ import annotations

import re
import uuid

from domain.guests import GuestType
from domain.source_protocols import GuestConfig

_QEMU_DISK = re.compile(r"(?:scsi|virtio|sata|ide)[0-9]{1,2}")
_LXC_DISK = re.compile(r"rootfs|mp[0-9]{1,3}")
_NIC = re.compile(r"net([0-9]{1,2})")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([KMGT]?)")
_UNIT_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_COUNT_MAX = 2**31 - 1
_NAME_MAX = 255


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
        name=_name(data.get("name" if is_qemu else "hostname")),
    )


def unreadable(node: str) -> GuestConfig:
    """The result for a guest whose configuration the token may not read."""
    return GuestConfig(fingerprint=None, node=node, cores=None, memory_mb=None, disk_gb=None, forbidden=True)


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _NAME_MAX and value.isprintable() else None


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


def _qemu_cores(data: dict[object, object]) -> float | None:
    cores, sockets = _positive(data.get("cores", 1)), _positive(data.get("sockets", 1))
    return None if cores is None or sockets is None else cores * sockets


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
