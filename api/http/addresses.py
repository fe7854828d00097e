"""Callers' addresses. What a proxy says of them may be any text, so what is no address is nothing."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

LONGEST = 45  # characters of an address; what is kept of what was asked lately is bounded, too


def address_of(text: str | None) -> str | None:
    """The one spelling of an IP address, without its zone, IPv4 as such; None for anything else."""
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
    """An IPv4 address, or the /64 that one IPv6 host has to itself; "unknown" without an address."""
    known = address_of(address)
    if known is None:
        return "unknown"
    if ":" in known:
        return str(ipaddress.IPv6Network((known, 64), strict=False))
    return known
