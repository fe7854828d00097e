"""The headers of every answer: each route, each kind of refusal, each page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from api import docs_page
from api.main import create_app
from panel.journal.accept import Acceptor
from panel.settings import load_settings
from runtime.processes.free_ports import free_port
from tests.integration.edge.conftest import Place, create_vps, posted, spoken
from tests.support.keys import random_key

ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


@pytest.fixture(scope="module")
def caller(place: Place) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=place.api.url, timeout=120, trust_env=False) as made:
        yield made


def assert_safe(answer: httpx.Response) -> None:
    headers = answer.headers
    assert {name: headers.get(name) for name in ALWAYS} == ALWAYS
    assert headers["x-request-id"]
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "script" not in policy
    assert headers["cache-control"] in {"no-store", "private, no-cache"}
    assert not {"server", "x-powered-by", "via", "strict-transport-security"} & set(headers)


def test_every_route_with_and_without_its_credential(
    place: Place, caller: httpx.Client, subtests: pytest.Subtests
) -> None:
    paths = caller.get("/openapi.json").json()["paths"]
    operations = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    operations += [("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nowhere"), ("DELETE", "/healthz")]
    credentials = [place.api.client(5), place.api.main_site, {"X-API-Key": place.api.operator_key}, {}]
    assert len(operations) > 20
    for method, path in operations:
        concrete = re.sub(r"\{\w+\}", "1", path)
        for number, headers in enumerate(credentials):
            # Not read to its end: one of them has none.
            with (
                subtests.test(f"{method} {path} {number}"),
                caller.stream(method, concrete, headers=headers) as answer,
            ):
                assert_safe(answer)


REFUSALS: list[tuple[str, str, str, dict[str, Any], int]] = [
    ("a page that is not there", "GET", "/etc/passwd", {}, 404),
    ("a path that climbs", "GET", "/api/vps/..%2f..%2fops/held", {}, 404),
    ("a method that is not there", "DELETE", "/api/vps", {}, 405),
    ("TRACE", "TRACE", "/api/vps/sync", {}, 405),
    ("no credential", "POST", "/api/vps/sync", {}, 401),
    ("a body that is too large", "POST", "/api/vps/sync", {"content": b" " * 70_000}, 413),
    ("a body of another kind", "POST", "/api/vps/sync", {"content": b"x"}, 415),
    ("a wrong field", "POST", "/api/vps/sync", {"json": create_vps(cpu=0)}, 422),
]


@pytest.mark.parametrize(
    ("method", "path", "given", "status"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_every_refusal(
    place: Place, caller: httpx.Client, method: str, path: str, given: dict[str, Any], status: int
) -> None:
    # From an address of its own: the calls above without a credential have used theirs up.
    headers = {"X-Forwarded-For": "198.51.100.7"} if status == 401 else place.api.main_site
    if "content" in given and status == 413:
        headers = headers | {"Content-Type": "application/json"}
    answer = caller.request(method, path, headers=headers, **given)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("allow" in answer.headers) == (status == 405)
    assert_safe(answer)


async def test_a_fault_of_the_panel_tells_nothing() -> None:
    class Faulty(Acceptor):
        async def start(self) -> None:
            raise AssertionError("not started in this test")

        async def accept(self, *_args: object, **_more: object) -> Any:
            raise ZeroDivisionError("secret detail")

    key = random_key()
    settings = load_settings(
        _env_file=None,
        database_url=f"postgresql://panel:x@127.0.0.1:{free_port()}/panel",
        vps_sync_api_key=SecretStr(key),
        jwt_secret=SecretStr(random_key()),
    )
    app: FastAPI = create_app(settings, acceptor=Faulty.__new__(Faulty))
    transport = httpx.ASGITransport(app)
    with structlog.testing.capture_logs():
        site = httpx.AsyncClient(transport=transport, base_url="http://panel", headers={"X-API-Key": key})
        async with site:
            answer = await site.post("/api/vps/sync", json=create_vps())
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret detail" not in answer.text
    assert "ZeroDivision" not in answer.text
    assert_safe(answer)


def test_https_behind_the_proxy_is_for_a_year(caller: httpx.Client) -> None:
    told = {
        scheme: caller.get("/healthz", headers={"X-Forwarded-Proto": scheme}).headers for scheme in ("https", "http")
    }
    assert told["https"]["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in told["http"]


def test_clients_data_is_theirs_alone(place: Place, caller: httpx.Client) -> None:
    answer = caller.get("/api/vps", headers=place.api.client(5))
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["vary"] == "Authorization"


def test_the_docs_page_needs_nothing_from_anywhere(caller: httpx.Client) -> None:
    answer = caller.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == docs_page.POLICY
    assert not re.search(r"<script|\bon\w+=|https?://|src=", answer.text)
    assert answer.text.count("<style>") == 1
    for path in caller.get("/openapi.json").json()["paths"]:
        assert f" {path}</code>" in answer.text


def test_the_docs_page_escapes_the_document() -> None:
    hostile = "<script>alert(1)</script>"
    schema = {"type": "object", "description": hostile, "properties": {hostile: {"type": hostile, "pattern": hostile}}}
    operation = {
        "summary": hostile,
        "description": hostile,
        "security": [{hostile: []}],
        "parameters": [{"name": hostile, "in": hostile, "schema": {"enum": [hostile]}, "description": hostile}],
        "requestBody": {"content": {"application/json": {"schema": {"$ref": f"#/x/{hostile}"}}}},
        "responses": {"200": {"description": hostile, "content": {"x": {"schema": {"const": hostile}}}}},
    }
    document = {
        "info": {"title": hostile, "version": hostile, "description": hostile},
        "paths": {hostile: {"get": operation}},
        "components": {"schemas": {hostile: schema}},
    }
    assert "<script" not in docs_page.page(document)


def test_what_is_no_http_is_a_problem_document_too(place: Place) -> None:
    answer = spoken(place.api.port, b"\x16\x03\x01\x02\x00 a TLS hello\r\n\r\n")
    assert answer is not None
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert "server" not in answer.headers


@pytest.mark.parametrize("wish", ["h2c", "websocket"])
def test_a_wish_to_upgrade_is_ignored(place: Place, wish: str) -> None:
    raw = posted(
        place, b"{}", f"Upgrade: {wish}", "Connection: Upgrade", "Content-Type: text/plain", "Content-Length: 2"
    )
    answer = spoken(place.api.port, raw)
    assert answer is not None
    assert answer.status == 415
