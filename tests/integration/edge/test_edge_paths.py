"""What a caller says of where it goes and whence it comes: a path with a control character is nowhere, an address is
an address or nothing."""

from __future__ import annotations

import re

import httpx
import pytest
from sqlalchemy import text

from tests.integration.edge.conftest import Place, posted, spoken
from tests.support.keys import random_key
from tests.support.waiting import wait_until

JSON = "Content-Type: application/json"


def _routes(place: Place) -> list[tuple[str, str]]:
    paths = httpx.get(f"{place.api.url}/openapi.json", trust_env=False).json()["paths"]
    found = [(method.upper(), re.sub(r"\{\w+\}", "1", path)) for path, methods in paths.items() for method in methods]
    return [*found, ("GET", "/docs"), ("GET", "/openapi.json")]


def test_a_control_character_in_a_path_is_nowhere(place: Place, subtests: pytest.Subtests) -> None:
    """A pattern that ends with ``$`` takes a line break, too."""
    routes = _routes(place)
    assert len(routes) > 25
    with httpx.Client(base_url=place.api.url, trust_env=False) as caller:
        for method, path in routes:
            for end in ("%0A", "%0a", "%00", "%0D%0A", "%7F", "%1f"):
                with subtests.test(f"{method} {path}{end}"):
                    for key in (place.api.sync_key, place.api.operator_key):
                        headers = {"X-API-Key": key} | place.api.client(5)
                        answer = caller.request(method, f"{path}{end}", headers=headers)
                        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


ADDRESSES: list[tuple[str, str, str | None]] = [
    ("an address", "198.51.100.7", "198.51.100.7"),
    ("with its port", "198.51.100.7:443", "198.51.100.7"),
    ("of IPv6", "2001:DB8::0:1", "2001:db8::1"),
    ("of IPv6 with its port", "[2001:db8::1]:443", "2001:db8::1"),
    ("IPv4 within IPv6", "::ffff:198.51.100.7", "198.51.100.7"),
    ("the last that is not the proxy's", "203.0.113.1, 198.51.100.7, 127.0.0.1", "198.51.100.7"),
    ("a zone without an end", "fe80::1%" + "z" * 8000, "fe80::1"),
    ("8000 letters", "a" * 8000, None),
    ("8000 digits", "1" * 8000, None),
    ("markup", "[link=http://x]1.2.3.4[/link]", None),
    ("an escape sequence", "198.51.100.7\\x1b[31m", None),
    ("a name", "localhost", None),
    ("unknown", "unknown", None),
    ("nothing", "", "127.0.0.1"),
]


@pytest.mark.parametrize(("told", "stored"), [row[1:] for row in ADDRESSES], ids=[row[0] for row in ADDRESSES])
def test_what_is_stored_and_logged_of_a_caller_is_an_address_or_nothing(
    place: Place, told: str, stored: str | None
) -> None:
    request_id = random_key()[:32]
    more = (f"X-Forwarded-For: {told}", f"X-Request-Id: {request_id}", "Connection: close")
    answer = spoken(place.api.port, posted(place, b"{}", JSON, "Content-Length: 2", *more))
    assert answer is not None
    assert answer.status == 400

    def addresses() -> list[str | None]:
        # By its id: what earlier requests are logged as may come later.
        return [event["address"] for event in place.api.log() if event.get("request_id") == request_id]

    wait_until(addresses, "the request is logged")
    assert addresses() == [stored]
    asked = text("SELECT address FROM refused_calls WHERE request_id = :id")

    def noted() -> list[str | None]:
        with place.engine.connect() as connection:
            return list(connection.scalars(asked, {"id": request_id}))

    assert wait_until(noted, "the refusal is noted") == [stored]
