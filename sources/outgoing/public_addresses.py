"""Which network addresses belong to the public internet. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses that a gateway turns into the IPv4 address in their last 32 bits."""


NEVER = tuple(
    IPv6Network(one) for one in ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10", "3fff::/20", "5f00::/16")
)
"""IPv4 addresses inside IPv6 ones in forms that no public host has, site-local and reserved networks. Python's tables
lack some of them, and which depends on its version."""
PROTOCOLS = IPv4Network("192.0.0.0/24")
"""Reserved for protocols; one cloud has its metadata there."""
INNER_SERVICES = frozenset({IPv4Address("168.63.129.16")})
"""Public by their network, but a cloud's inner service: Azure's agent and DNS."""


def is_public(address: str) -> bool:
    """Whether a numeric address leads into the public internet: not to this host, a private network, a link, a group of
    hosts, or a cloud's metadata. An IPv4 address inside an IPv6 address counts as itself."""
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        if any(found in network for network in NEVER):
            return False
        inner = _inside(found)
        return found.is_global and not found.is_multicast if inner is None else is_public(str(inner))
    return found.is_global and not found.is_multicast and found not in PROTOCOLS and found not in INNER_SERVICES


def _inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that it stands for, if it does for one."""
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
