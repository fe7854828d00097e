"""What the adapters need to know. Other code builds it from the settings. Frozen; secrets are redacted in repr."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from sources.outgoing.tls import fingerprint_bytes

_MIB = 1024 * 1024
_API_BASE = "/api/panel"


class FeedKind(StrEnum):
    """Which of the main site's interfaces the panel reads."""

    ORDERS = "orders"
    PANEL_API = "panel-api"


@dataclass(frozen=True, slots=True)
class MainSiteConfig:
    """How to read the main site. Durations in seconds, sizes in bytes.

    ``base_url`` may end in ``/api/panel`` or not. ``panel_api_cluster``: the cluster that ``proxmoxId`` belongs to
    if the feed names none. ``proxy``: ``http://[user:password@]host:port``. ``rolling_users``: how many users a delta
    read of ``panel-api`` takes besides the suspects.
    """

    base_url: str
    api_key: SecretStr
    feed: FeedKind = FeedKind.ORDERS
    panel_api_cluster: str | None = None
    ca_file: Path | None = None
    proxy: SecretStr | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    answer_timeout_s: float = 60.0
    page_limit: int = 1_000
    max_pages: int = 5_000
    max_body_bytes: int = 16 * _MIB
    attempts: int = 3
    requests_per_s: float = 20.0
    rolling_users: int = 200

    def __post_init__(self) -> None:
        _check_url("MAIN_SITE_URL", self.base_url)
        _check_secret("MAIN_SITE_API_KEY", self.api_key)

    @property
    def api_url(self) -> str:
        """The root of the interface, without a trailing slash."""
        return self.base_url.rstrip("/").removesuffix(_API_BASE) + _API_BASE


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """How to read one Proxmox VE cluster. Durations in seconds, sizes in bytes.

    ``urls``: endpoints of the same cluster, tried in order (``https://host:8006``). The server is trusted by
    ``fingerprint`` (SHA-256 of its certificate; colons optional) if given, else by ``ca_file``, else by the host's own
    authorities. ``pools``: the pools that the token sees if it does not see ``/vms``. ``allow_plaintext`` permits
    ``http://`` to hosts other than loopback, for closed demo networks.
    """

    name: str
    urls: tuple[str, ...]
    token_id: str
    token_secret: SecretStr
    ca_file: Path | None = None
    fingerprint: str | None = None
    proxy: SecretStr | None = None
    pools: tuple[str, ...] = ()
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 40.0  # Proxmox answers 596 for an unreachable node after 30 s
    answer_timeout_s: float = 90.0
    max_body_bytes: int = 64 * _MIB  # 10,000 running guests are about 4 MB
    allow_plaintext: bool = False

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError(f"PROXMOX_CLUSTERS: cluster {self.name} has no urls")
        for url in self.urls:
            _check_url(f"PROXMOX_CLUSTERS: cluster {self.name}", url)
            if urlsplit(url).scheme == "http" and not (self.allow_plaintext or _is_loopback(url)):
                raise ValueError(f"PROXMOX_CLUSTERS: cluster {self.name} must be reached by https://")
        if not re.fullmatch(r"[^\s!@]+@[^\s!@]+![^\s!@=]+", self.token_id):
            raise ValueError(f"PROXMOX_CLUSTERS: cluster {self.name}: token_id is not USER@REALM!TOKENID")
        _check_secret(f"PROXMOX_CLUSTERS: cluster {self.name}: token_secret", self.token_secret)
        if self.fingerprint is not None:
            fingerprint_bytes(self.fingerprint)

    @property
    def api_urls(self) -> tuple[str, ...]:
        """The roots of the interface. The setting may include ``/api2/json`` or not."""
        return tuple(re.sub(r"(/api2(/(json|extjs))?)?/*$", "", url) + "/api2/json" for url in self.urls)


def _check_url(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{name}: the address must read https://host or https://host:port")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"{name}: the address must not carry credentials, a query or a fragment")


def _check_secret(name: str, secret: SecretStr) -> None:
    value = secret.get_secret_value()
    # Other characters cannot go into a header, and the library's own error would print the secret.
    if not value or not all("!" <= character <= "~" for character in value):
        raise ValueError(f"{name} must be printable ASCII without spaces")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
