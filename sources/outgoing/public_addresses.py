"""Which network addresses belong to the public internet. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses that a gateway turns into the IPv4 address in their last 32 bits."""


def is_public(address: str) -> bool:
    """Whether a numeric address leads into the public internet: not to this host, a private network, a link, a group of
    hosts, or a cloud's metadata. An IPv4 address inside an IPv6 address counts as itself."""
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        inner = _inside(found)
        return found.is_global and not found.is_multicast if inner is None else is_public(str(inner))
    return found.is_global and not found.is_multicast


def _inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that it stands for, if it does for one."""
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
