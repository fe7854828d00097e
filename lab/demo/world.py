"""The demo's keys, ports and settings of the panel. All of them are made for one demo."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from panel.settings import Settings
from runtime.processes.free_ports import LOOPBACK, free_port, reserve_port

CLUSTERS = ("berlin", "riga")
PROOF_N = 3
PROOF_T_S = 15.0
FAST_INTERVAL_S = 2.0
FULL_INTERVAL_S = 3.0
PANEL_PORT = 5050
FLOWER_PORT = 5555


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer with orders. The panel's id and the main site's id differ."""

    main_site_id: int
    panel_id: int
    username: str

    @property
    def email(self) -> str:
        return f"{self.username}@example.test"


ANNA = Customer(1, 5, "anna")
BORIS = Customer(2, 6, "boris")
CLARA = Customer(3, 9, "clara")
CUSTOMERS = (ANNA, BORIS, CLARA)


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Random keys of one demo. `proxmox_token_id` is a name, not a secret."""

    sync: str
    jwt: str
    sign_in: str
    operator: str
    flower: str
    main_site: str
    proxmox: str
    control: str
    proxmox_token_id: str = "panel@pve!sync"  # noqa: S105 - the token's name

    @classmethod
    def make(cls) -> Keys:
        """New random keys."""
        sync, jwt, sign_in, main_site, proxmox, control = (secrets.token_urlsafe(32) for _ in range(6))
        # The operator's key and Flower's password are shorter, because a person types them.
        operator, flower = secrets.token_urlsafe(24), secrets.token_urlsafe(9)
        return cls(sync, jwt, sign_in, operator, flower, main_site, proxmox, control)


@dataclass(frozen=True, slots=True)
class Places:
    """Where each part listens on the loopback, and where the clusters' authorities are written."""

    panel: int
    flower: int
    main_site: int
    proxmox: Mapping[str, int]
    authorities: Path

    @property
    def panel_url(self) -> str:
        return f"http://{LOOPBACK}:{self.panel}"

    @property
    def flower_url(self) -> str:
        return f"http://{LOOPBACK}:{self.flower}"

    @property
    def main_site_url(self) -> str:
        return f"http://{LOOPBACK}:{self.main_site}"

    def proxmox_url(self, cluster: str) -> str:
        """The cluster's address."""
        return f"https://{LOOPBACK}:{self.proxmox[cluster]}"

    def ca_file(self, cluster: str) -> Path:
        """The file into which the cluster's simulator writes its authority's certificate when it starts."""
        return self.authorities / cluster / "ca.pem"


def choose_places(root: Path) -> Places:
    """The usual ports if they are free, else other ports. All are reserved for this process."""
    return Places(
        panel=_preferred(PANEL_PORT),
        flower=_preferred(FLOWER_PORT),
        main_site=free_port(),
        proxmox={cluster: free_port() for cluster in CLUSTERS},
        authorities=root / "proxmox",
    )


def _preferred(port: int) -> int:
    return port if reserve_port(port) else free_port()


def panel_settings(places: Places, keys: Keys, servers: Mapping[str, str], **others: Any) -> Settings:  # noqa: ANN401
    """The panel's settings. `servers`: DATABASE_URL, DATABASE_OWNER_URL and REDIS_URL. `others`: by name.

    The clusters must have written their authorities' certificates. No setting comes from the environment or from .env,
    because the demo must not play its faults on a real main site that is configured there.
    """
    chosen: dict[str, Any] = {
        "demo": True,
        "vps_sync_api_key": SecretStr(keys.sync),
        "ops_api_key": SecretStr(keys.operator),
        "jwt_secret": SecretStr(keys.jwt),
        "sign_in_secret": SecretStr(keys.sign_in),
        "sign_in_url": places.main_site_url,
        "power_actions": True,
        "flower_password": SecretStr(keys.flower),
        "port": places.panel,
        "flower_port": places.flower,
        "flower_url": places.flower_url,
        "log_format": "console",
        "main_site_url": places.main_site_url,
        "main_site_api_key": SecretStr(keys.main_site),
        "user_id_space": "mapped",
        "proxmox_clusters": [
            {
                "name": cluster,
                "urls": [places.proxmox_url(cluster)],
                "token_id": keys.proxmox_token_id,
                "token_secret": keys.proxmox,
                "ca_file": places.ca_file(cluster),
            }
            for cluster in CLUSTERS
        ],
        "fast_interval_s": FAST_INTERVAL_S,
        "full_interval_s": FULL_INTERVAL_S,
        "sweep_interval_s": 5,
        "users_interval_s": 5,
        "power_grace_s": 1,
        "link_grace_s": 2,
        "create_grace_s": 2,
        "paid_missing_grace_s": 6,
        "absence_proof_n": PROOF_N,
        "absence_proof_t_s": PROOF_T_S,
    } | {name.lower(): value for name, value in servers.items()}
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    return Settings(_env_file=None, **(defaults | chosen | others))


def environment_of(settings: Settings) -> dict[str, str]:
    """Every setting as an environment variable, so that a child process gets these settings and no others."""
    return {name.upper(): _text(getattr(settings, name)) for name in Settings.model_fields}


def _text(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case tuple() if value and all(isinstance(item, str) for item in value):
            return ",".join(value)
        case list() | tuple():
            return json.dumps([_plain(item) for item in value])
        case _:
            return str(value)


def _plain(item: BaseModel) -> dict[str, Any]:
    # A dump in JSON mode would hide the secrets, and the child process needs them.
    values = item.model_dump(exclude_none=True)
    return {
        name: value.get_secret_value()
        if isinstance(value, SecretStr)
        else str(value)
        if isinstance(value, Path)
        else value
        for name, value in values.items()
    }
