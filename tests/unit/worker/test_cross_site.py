"""Requests that change something come from Flower's own pages, or from no page at all."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from worker.cross_site import refusal_of

HOST = "flower.test:5555"
OWN, FOREIGN = f"http://{HOST}/workers", "https://evil.example/x"
JSON = ("Content-Type", "application/json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")

CASES: list[tuple[str, list[tuple[str, str]], bool]] = [
    ("its own page", [("Origin", f"http://{HOST}"), ("Referer", OWN), ("Sec-Fetch-Site", "same-origin"), FORM], True),
    ("its own Origin", [("Origin", f"https://{HOST.upper()}"), FORM], True),
    ("its own Referer", [("Referer", OWN), FORM], True),
    ("a foreign Origin", [("Origin", "https://evil.example"), JSON], False),
    ("a foreign Referer", [("Referer", FOREIGN), JSON], False),
    ("a foreign Referer beside its own Origin", [("Origin", f"http://{HOST}"), ("Referer", FOREIGN)], False),
    ("two Origins", [("Origin", f"http://{HOST}"), ("Origin", "https://evil.example")], False),
    ("Origin null", [("Origin", "null"), JSON], False),
    ("an empty Referer", [("Referer", ""), JSON], False),
    ("a Referer that is no address", [("Referer", "http://[x"), JSON], False),
    ("another port", [("Origin", "http://flower.test:80"), JSON], False),
    ("a name that begins alike", [("Referer", f"http://{HOST}.evil.example/"), JSON], False),
    ("a name before the at sign", [("Referer", f"http://{HOST}@evil.example/"), JSON], False),
    ("another site by fetch metadata", [("Sec-Fetch-Site", "cross-site"), JSON], False),
    ("the same site, not the same origin", [("Sec-Fetch-Site", "same-site"), JSON], False),
    ("an address typed in", [("Sec-Fetch-Site", "none"), JSON], False),
    ("nothing, as a script", [JSON], True),
    ("nothing, as a script without body", [("X-Requested-With", "curl")], True),
    ("nothing, as a form elsewhere might", [FORM], False),
    ("nothing, as fetch elsewhere might", [("Content-Type", "text/plain; x=application/json")], False),
    ("nothing at all", [], False),
]


@pytest.mark.parametrize(("given", "passes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_where_a_request_comes_from(given: list[tuple[str, str]], passes: bool) -> None:
    headers = HTTPHeaders()
    for name, value in given:
        headers.add(name, value)
    assert (refusal_of(HOST, headers) is None) is passes
