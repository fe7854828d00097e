"""What callers send cannot forge, split or colour the log: one JSON line an event, whatever is in it."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.integration.edge.conftest import Place, create_vps, logged, posted, spoken
from tests.support.waiting import wait_until

FORGED = '{"event": "forged", "level": "info"}'
HOSTILE: list[tuple[str, str]] = [
    ("a line of its own", f"x\n{FORGED}\n"),
    ("a carriage return", f"x\r{FORGED}"),
    ("a colour", "\x1b[31mx\x1b[0m"),
    ("a terminal's title", "\x1b]0;x\x07"),
    ("a line separator", f"x\u2028{FORGED}"),
    ("bidi", "\u202egnp.exe"),
    ("a quote", f'x", "event": "forged", "y": "{FORGED}'),
]
CASES = pytest.mark.parametrize("text", [row[1] for row in HOSTILE], ids=[row[0] for row in HOSTILE])


def _lines_after(place: Place, raw: bytes) -> list[dict[str, object]]:
    """The events that a request leaves, each of which is a line of printable ASCII."""
    before = logged(place)
    assert spoken(place.api.port, raw) is not None
    wait_until(lambda: len(place.api.log()) > before, "the request is logged")
    for line in place.api.process.log_path.read_text().splitlines():
        assert line.isascii()
        assert line.isprintable()
    events = place.api.log()[before:]
    assert not [event for event in events if event["event"] == "forged"]
    return events


@CASES
def test_a_path_is_one_value(place: Place, text: str) -> None:
    raw = f"GET /{quote(text)} HTTP/1.1\r\nHost: panel\r\nConnection: close\r\n\r\n".encode()
    (event,) = _lines_after(place, raw)
    assert (event["event"], event["path"], event["status"]) == ("http_request", f"/{text}", 404)


@pytest.mark.parametrize("before", ["/", "/api/vps/", "/" + "x" * 150 + "/"])
def test_a_token_in_a_path_is_in_no_line(place: Place, before: str) -> None:
    """Whole, or cut where the logged path ends."""
    token = place.api.token(5)
    raw = f"GET {before}{token} HTTP/1.1\r\nHost: panel\r\nConnection: close\r\n\r\n".encode()
    (event,) = _lines_after(place, raw)
    assert str(event["path"]) == f"{before}[redacted]"
    assert token[:20] not in place.api.process.log_path.read_text()


@CASES
def test_a_name_is_in_no_line_at_all(place: Place, text: str) -> None:
    events = _lines_after(place, posted(place, json.dumps(create_vps(name=f"hostile{text}", cpu=0)).encode()))
    assert "hostile" not in json.dumps(events)


@pytest.mark.parametrize(
    "header",
    ["X-Request-Id: a\x1b[31m", "X-Request-Id: ../../x", "X-Request-Id: " + "a" * 65, "User-Agent: \x1b[2J\x9b",
     "X-Forwarded-For: \x1b[31mx", "Idempotency-Key: \x1b[31m", "Prefer: wait=\x1b", "Authorization: \x1b[31m"],
)  # fmt: skip
def test_a_header_is_no_line(place: Place, header: str) -> None:
    raw = posted(place, b"{}", header, "Content-Type: application/json", "Content-Length: 2")
    events = _lines_after(place, raw)
    assert "\x1b" not in json.dumps(events, ensure_ascii=False)
    for event in events:
        assert str(event.get("request_id", "0" * 32)).isalnum()


def test_a_header_with_a_line_break_is_two_headers_or_none(place: Place) -> None:
    raw = posted(place, b"{}", "X-Request-Id: a\nX-Forged: b", "Content-Type: application/json", "Content-Length: 2")
    for event in _lines_after(place, raw):
        assert "Forged" not in json.dumps(event)
