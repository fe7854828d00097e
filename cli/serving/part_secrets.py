"""Each process gets the secrets that its work needs, and no others.

A process reads ``.env`` itself, so it is not enough to leave a variable out of its environment. Each secret that it
must not know is set to an empty value, which wins over ``.env``. A secret is withheld unless a part's needs name it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum

from panel.settings import ProxmoxCluster, Settings

SECRETS: Mapping[str, str] = {
    "database_url": "",
    "database_owner_url": "",
    "database_session_url": "",
    "redis_url": "",
    "vps_sync_api_key": "",
    "vps_sync_api_key_previous": "",
    "ops_api_key": "",
    "ops_api_key_previous": "",
    "ops_api_keys": "[]",
    "jwt_secret": "",
    "jwt_jwks_proxy": "",
    "sign_in_secret": "",
    "flower_password": "",
    "main_site_api_key": "none",  # not empty: every process may know whether there is a main site
    "main_site_proxy": "",
    "proxmox_clusters": "",  # see without_tokens: names are no secret, and operators pause clusters by name
    "finding_webhook_url": "",
    "finding_webhook_proxy": "",
    "main_site_webhook_secret": "",
    "main_site_webhook_secret_previous": "",
}
"""Every setting that holds a secret, and its value in a process that must not know it."""

_SERVERS = frozenset({"database_url", "database_session_url", "redis_url"})


class Needs(Enum):
    """The secrets of each part. Workers of the queue ``sync`` and beat need the servers only. Workers of the queues
    ``power`` and ``statistics`` reach Proxmox besides, and nothing else outside; one of the queue ``webhooks`` reaches
    the main site's webhook. A worker of several queues needs what each of them needs."""

    API = _SERVERS | {
        "vps_sync_api_key",
        "vps_sync_api_key_previous",
        "ops_api_key",
        "ops_api_key_previous",
        "ops_api_keys",
        "jwt_secret",
        "jwt_jwks_proxy",
        "sign_in_secret",
    }
    SERVERS = _SERVERS
    RECONCILE = _SERVERS | {
        "main_site_api_key",
        "main_site_proxy",
        "proxmox_clusters",
        "finding_webhook_url",
        "finding_webhook_proxy",
    }
    PROXMOX = _SERVERS | {"proxmox_clusters"}
    WEBHOOKS = _SERVERS | {"main_site_webhook_secret", "main_site_webhook_secret_previous", "main_site_proxy"}
    EVERY_QUEUE = RECONCILE | PROXMOX | WEBHOOKS
    FLOWER = frozenset({"redis_url", "flower_password"})


def withheld(needs: Needs, settings: Settings) -> dict[str, str]:
    """The variables that hide from a process the secrets that it does not need."""
    hidden = {name.upper(): value for name, value in SECRETS.items() if name not in needs.value}
    if "PROXMOX_CLUSTERS" in hidden:
        hidden["PROXMOX_CLUSTERS"] = json.dumps([without_tokens(cluster) for cluster in settings.proxmox_clusters])
    return hidden


def without_tokens(cluster: ProxmoxCluster) -> dict[str, object]:
    """The cluster's settings without secrets, for a process that does not read the cluster."""
    shown = cluster.model_dump(mode="json", exclude={"token_secret", "proxy"}, exclude_none=True)
    return {**shown, "token_secret": ""}
