"""Only configured addresses are called: nothing that a caller, a feed or a token says becomes a URL."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import httpx
import jwt
import pytest
from pydantic import SecretStr

from domain.source_protocols import Unclear
from panel.journal.writer import apply_operation
from sources.config import MainSiteConfig
from sources.main_site import OrdersFeed
from tests.integration.edge.conftest import Place, create_vps
from tests.integration.sources.raw_server import RawServer, http

FIELDS = ("url", "href", "callback", "webhook", "next", "links", "self", "image", "proxmoxHost", "avatarUrl")


@pytest.fixture
def bait() -> Iterator[RawServer]:
    """A server that must never be called."""
    with RawServer(http(b"{}")) as made:
        yield made
        assert not made.connections


def _feed(server: RawServer) -> OrdersFeed:
    config = MainSiteConfig(base_url=f"http://{server.authority}", api_key=SecretStr("key"), attempts=1)
    return OrdersFeed(config)


def _page(rows: list[dict[str, Any]], **fields: object) -> bytes:
    moment = "2026-03-01T11:59:59Z"
    document = {"status": "success", "data": rows, "next_cursor": None, "total": len(rows), "as_of": moment, **fields}
    return http(json.dumps(document).encode(), extra=f"Date: {formatdate(usegmt=True)}\r\n")


def _row(order_id: object, url: str) -> dict[str, Any]:
    """An order whose every text is an address, known fields and unheard-of ones."""
    texts = dict.fromkeys(("panelVpsId", "proxmoxId", "cluster", "node", "name", "os", "ipAddress"), url)
    more: dict[str, Any] = dict.fromkeys(FIELDS, url) | {"_links": {"self": {"href": url}}, "$ref": url}
    plan = {"cpu": 1, "ram": 1024, "disk": 10, "guestType": "qemu", "hypervisor": "proxmox", "status": "running"}
    moment = "2026-03-01T11:00:00Z"
    return texts | more | plan | {"id": order_id, "userId": 5, "createdAt": moment, "updatedAt": moment}


def _targets(server: RawServer) -> list[str]:
    """Path of each request; the host is the server's own."""
    for head in server.heads:
        assert f"host: {server.authority}\r\n" in head.lower()
    return [head.split()[1] for head in server.heads]


def test_a_row_of_addresses_and_a_cursor_that_is_one(bait: RawServer) -> None:
    url = f"http://{bait.authority}/x"
    with RawServer(_page([_row(1, url)], next_cursor=url, total=2), _page([_row(2, url)], total=2)) as site:
        feed = _feed(site)
        sweep = feed.orders()
        for _ in sweep.pages:
            pass
        feed.close()
        targets = _targets(site)
    assert len(targets) == 2, sweep.problem
    for target in targets:
        assert target.startswith("/api/panel/orders?"), "the cursor is a parameter, never an address"


@pytest.mark.parametrize("order_id", ["http://{}/x", "//{}/x", "@{}", "1@{}/..", "../users", "1?id=2", "1#x"])
def test_an_order_id_is_one_segment_of_a_path(bait: RawServer, order_id: str) -> None:
    with RawServer(http(b"{}", status="404 Not Found")) as site:
        feed = _feed(site)
        feed.order(order_id.format(bait.authority), "7")
        feed.close()
        targets = _targets(site)
    assert targets
    for target in targets:
        assert target.startswith("/api/panel/")
        assert "?" not in target
        assert not target.startswith("/api/panel/users")


def test_an_order_id_that_would_climb_is_not_asked_for() -> None:
    with RawServer(http(b"{}", status="404 Not Found")) as site:
        feed = _feed(site)
        found = [feed.order(order_id, "7") for order_id in (".", "..")]
        feed.close()
        assert not site.heads
    assert all(isinstance(one, Unclear) for one in found), "neither there nor gone"


def test_a_redirect_is_not_followed(bait: RawServer) -> None:
    location = f"Location: http://{bait.authority}/x\r\n"
    with RawServer(http(b"", status="302 Found", extra=location)) as site:
        feed = _feed(site)
        sweep = feed.orders()
        for _ in sweep.pages:
            pass
        feed.close()
    assert not sweep.complete


def test_a_sync_call_of_addresses_is_text(place: Place, bait: RawServer) -> None:
    url = f"http://{bait.authority}/x"
    vps = create_vps(name=url, os=url, order_id=url, **dict.fromkeys(FIELDS, url))
    with httpx.Client(base_url=place.api.url, trust_env=False) as caller:
        answer = caller.post("/api/vps/sync", json=vps, headers=place.api.main_site | {"Referer": url, "Origin": url})
        assert answer.status_code == 202
        apply_operation(place.engine, answer.json()["operation"]["id"])
        host = caller.get("/api/vps", headers=place.api.client(5) | {"Host": bait.authority, "X-Forwarded-Host": url})
    assert host.json()["data"][0]["name"] == url


@pytest.mark.parametrize("header", ["jku", "x5u"])
def test_a_token_names_no_place_to_get_its_key_from(place: Place, bait: RawServer, header: str) -> None:
    url = f"http://{bait.authority}/keys"
    claims = {"user_id": 5, "sub": "5", "exp": int(time.time()) + 60}
    token = jwt.encode(claims, "another secret, of more than 32 bytes", "HS256", headers={header: url, "kid": url})
    answer = httpx.get(f"{place.api.url}/api/vps", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert answer.status_code == 401
