"""Whether a request that changes something may come from another site's page. Pure.

A browser sends Flower's password by itself, also with a request that another site's page makes. Flower itself checks
``Origin`` and ``Sec-Fetch-Site``. A request may come without both, and then only ``Referer`` names the other site.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

SIMPLE_TYPES = frozenset({"", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
"""Content types that a page may send to another site without that site's permission."""


class Headers(Protocol):
    """The request's headers, as Tornado has them."""

    def get_list(self, name: str) -> list[str]: ...


def refusal_of(host: str, headers: Headers) -> str | None:
    """Why the request is refused, or None if it comes from Flower's own pages or from no page."""
    sites, origins, referers = (headers.get_list(name) for name in ("Sec-Fetch-Site", "Origin", "Referer"))
    if any(site.strip().lower() != "same-origin" for site in sites):
        return "Cross-site request forbidden"
    if any(not _is_own(address, host) for address in (*origins, *referers)):
        return "Cross-origin request forbidden"
    if sites or origins or referers or not _page_may_send(headers.get_list("Content-Type"), headers):
        return None
    return "Say where the request comes from: send Content-Type: application/json or X-Requested-With"


def _is_own(address: str, host: str) -> bool:
    try:
        named = urlsplit(address.strip()).netloc
    except ValueError:
        return False
    return named.rpartition("@")[2].lower() == host.lower()


def _page_may_send(content_types: Sequence[str], headers: Headers) -> bool:
    """Whether another site's page can make a browser send this without a preflight (a "simple" request)."""
    if headers.get_list("X-Requested-With"):
        return False
    types = content_types or [""]
    return any(content_type.partition(";")[0].strip().lower() in SIMPLE_TYPES for content_type in types)
