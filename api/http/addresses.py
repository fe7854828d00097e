"""Callers' addresses. A proxy may report any text as an address; text that is not an address counts as none."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

LONGEST = 45  # characters of an address; it bounds the cache, too


def address_of(text: str | None) -> str | None:
    """The canonical spelling of an IP address, without its zone and with mapped IPv4 as IPv4; None for other text."""
    address = (text or "").partition("%")[0]
    return _spelled(address) if len(address) <= LONGEST else None


@lru_cache(maxsize=1024)
def _spelled(address: str) -> str | None:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def network_of(address: str | None) -> str:
    """An IPv4 address, or the /64 network of an IPv6 address, which one host may own; "unknown" without an address."""
    known = address_of(address)
    if known is None:
        return "unknown"
    if ":" in known:
        return str(ipaddress.IPv6Network((known, 64), strict=False))
    return known
