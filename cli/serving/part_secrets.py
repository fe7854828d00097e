"""Each process gets the secrets that its work needs, and no others.

A process reads ``.env`` itself, so leaving a variable out of its environment is not enough: what it must not know is
set to a value that says nothing, which wins over ``.env``. What is not named here is withheld, new secrets included.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum

from panel.settings import ProxmoxCluster, Settings

SECRETS: Mapping[str, str] = {
    "database_url": "",
    "database_owner_url": "",
    "redis_url": "",
    "vps_sync_api_key": "",
    "vps_sync_api_key_previous": "",
    "ops_api_key": "",
    "ops_api_key_previous": "",
    "ops_api_keys": "[]",
    "jwt_secret": "",
    "jwt_jwks_proxy": "",
    "flower_password": "",
    "main_site_api_key": "none",  # not empty: whether there is a main site, every process may know
    "main_site_proxy": "",
    "proxmox_clusters": "",  # see without_tokens: names are no secret, and pauses are asked for by name
    "finding_webhook_url": "",
    "finding_webhook_proxy": "",
}
"""Every setting that holds a secret, and what it says to a process that must not know it."""

_SERVERS = frozenset({"database_url", "redis_url"})


class Needs(Enum):
    """The secrets of each part. The queue ``sync`` and beat need the servers, and nothing else."""

    API = _SERVERS | {
        "vps_sync_api_key",
        "vps_sync_api_key_previous",
        "ops_api_key",
        "ops_api_key_previous",
        "ops_api_keys",
        "jwt_secret",
        "jwt_jwks_proxy",
    }
    SERVERS = _SERVERS
    RECONCILE = _SERVERS | {
        "main_site_api_key",
        "main_site_proxy",
        "proxmox_clusters",
        "finding_webhook_url",
        "finding_webhook_proxy",
    }
    FLOWER = frozenset({"redis_url", "flower_password"})


def withheld(needs: Needs, settings: Settings) -> dict[str, str]:
    """The variables that keep from a process whatever it does not need."""
    hidden = {name.upper(): value for name, value in SECRETS.items() if name not in needs.value}
    if "PROXMOX_CLUSTERS" in hidden:
        hidden["PROXMOX_CLUSTERS"] = json.dumps([without_tokens(one) for one in settings.proxmox_clusters])
    return hidden


def without_tokens(cluster: ProxmoxCluster) -> dict[str, object]:
    """The cluster as one that does not read it may know it."""
    shown = cluster.model_dump(mode="json", exclude={"token_secret", "proxy"}, exclude_none=True)
    return {**shown, "token_secret": ""}
