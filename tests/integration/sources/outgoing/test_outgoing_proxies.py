"""Each source has a setting for its proxy, and what asks that source goes through that proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from api.client.jwks import KeysAwayError
from api.main import _jwks
from panel.settings import Settings, load_settings
from sources.proxmox.cluster import ClusterSource
from tests.integration.sources.raw_server import RawServer, http
from tests.support.keys import random_key
from worker.webhooks.alarms import _receiver
from worker.webhooks.events import receiver_of
from worker.wiring import cluster_config, feed_of


def feed(settings: Settings) -> None:
    asked = feed_of(settings)
    assert asked is not None
    asked.health()


def cluster(settings: Settings) -> None:
    ClusterSource(cluster_config(settings.proxmox_clusters[0])).health()


def keys(settings: Settings) -> None:
    with contextlib.suppress(KeysAwayError):
        asyncio.run(_jwks(settings).key_for("1", "RS256"))


def alarms(settings: Settings) -> None:
    _receiver(settings).post(b"{}", {})


def events(settings: Settings) -> None:
    receiver_of(settings).post(b"{}", {})


def proxmox(proxy: str) -> str:
    named = {"name": "c1", "urls": ["https://site.test:8006"], "token_id": "p@pve!t", "token_secret": "s" * 36}
    return json.dumps([named | {"proxy": proxy}])


@pytest.mark.parametrize(
    ("ask", "given", "place"),
    [
        (feed, lambda proxy: {"main_site_url": "https://site.test", "main_site_proxy": proxy}, "site.test:443"),
        (cluster, lambda proxy: {"proxmox_clusters": proxmox(proxy)}, "site.test:8006"),
        (keys, lambda proxy: {"jwt_jwks_url": "https://site.test/keys", "jwt_jwks_proxy": proxy}, "site.test:443"),
        (
            alarms,
            lambda proxy: {"finding_webhook_url": "https://site.test/hook", "finding_webhook_proxy": proxy},
            "site.test:443",
        ),
        (
            events,
            lambda proxy: {"main_site_webhook_url": "https://site.test/hook", "main_site_proxy": proxy},
            "site.test:443",
        ),
    ],
    ids=["feed", "cluster", "keys", "alarms", "events"],
)
def test_what_asks_a_source_goes_through_its_proxy(
    ask: Callable[[Settings], None],
    given: Callable[[str], dict[str, Any]],
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = {
        "database_url": "postgresql://panel@127.0.0.1:1/none", "vps_sync_api_key": random_key(),
        "main_site_api_key": random_key(), "main_site_webhook_secret": "whsec_" + "A" * 44,
        "user_id_space": "mapped",
    }  # fmt: skip
    with RawServer(http(status="502 Bad Gateway")) as proxy:
        for name, value in (needed | given(f"http://{proxy.authority}")).items():
            monkeypatch.setenv(name.upper(), value)
        name, value = ("JWT_ALGORITHMS", "RS256") if ask is keys else ("JWT_SECRET", random_key())
        monkeypatch.setenv(name, value)
        ask(load_settings(_env_file=None))
        heads = list(proxy.heads)
    assert heads, "nobody asked the proxy"
    assert all(head.startswith(f"CONNECT {place} HTTP/1.1\r\n") for head in heads)
