"""Bodies of any kind at the sync endpoint: an answer in time, all of the call in the journal or nothing of it."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panel.journal.writer import apply_operation
from tests.integration.edge.conftest import Answer, Place, create_vps, posted, spoken

IN_TIME_S = 60.0
"""Bodies are small: more is a reading whose time grows faster than they do, not a busy machine."""
LIMIT = 65536
JSON = "Content-Type: application/json"

GOOD = json.dumps(create_vps()).encode()


def _with(name: str, raw: str) -> bytes:
    """A create in which the value of one field is this JSON text."""
    return json.dumps(create_vps(**{name: "@@"})).replace('"@@"', raw).encode()


def _padded(size: int) -> bytes:
    return GOOD + b" " * (size - len(GOOD))


BODIES: list[tuple[str, bytes, int, str]] = [
    ("nothing", b"", 400, "invalid_json"),
    ("not an object", b"[]", 422, "invalid_field"),
    ("an object of nothing", b"{}", 400, "missing_fields"),
    ("cut off", GOOD[:-3], 400, "invalid_json"),
    ("twice", GOOD + GOOD, 400, "invalid_json"),
    ("a byte order mark", b"\xef\xbb\xbf" + GOOD, 400, "invalid_json"),
    ("UTF-16", GOOD.decode().encode("utf-16"), 400, "invalid_json"),
    ("UTF-32 without a mark", GOOD.decode().encode("utf-32-le"), 400, "invalid_json"),
    ("Latin-1", GOOD.replace(b"web-01", b"caf\xe9"), 400, "invalid_json"),
    ("overlong UTF-8", GOOD.replace(b"web-01", b"\xc0\xaf"), 400, "invalid_json"),
    ("a nesting bomb of lists", b"[" * 60_000, 400, "invalid_json"),
    ("a nesting bomb of objects", b'{"a":' * 12_000, 400, "invalid_json"),
    ("a nesting bomb in an ignored field", _with("notes", "[" * 30_000 + "]" * 30_000), 400, "invalid_json"),
    ("ten thousand keys", json.dumps({f"k{n}": 1 for n in range(5_000)}).encode(), 400, "missing_fields"),
    ("NaN", _with("cpu", "NaN"), 400, "invalid_json"),
    ("Infinity", _with("disk", "-Infinity"), 400, "invalid_json"),
    ("a number too large for a float", _with("ram", "1e999"), 400, "invalid_json"),
    ("an integer of 5000 digits", _with("ram", "9" * 5000), 400, "invalid_json"),
    ("an integer of 4000 digits", _with("ram", "9" * 4000), 422, "invalid_field"),
    ("an integer past 64 bits", _with("user_id", str(2**63)), 422, "invalid_field"),
    ("a float past 64 bits", _with("user_id", "1e300"), 422, "invalid_field"),
    ("a fraction", _with("cpu", "4.5"), 422, "invalid_field"),
    ("a negative number", _with("disk", "-1"), 422, "invalid_field"),
    ("a number in quotes", _with("cpu", '"4"'), 422, "invalid_field"),
    ("true for a number", _with("cpu", "true"), 422, "invalid_field"),
    ("a list for a text", _with("name", '["web-01"]'), 422, "invalid_field"),
    ("a key twice", _with("name", '"a", "name": "b"'), 400, "invalid_json"),
    ("a key twice, once escaped", _with("name", '"a", "n\\u0061me": "b"'), 400, "invalid_json"),
    ("a NUL", _with("name", '"a\\u0000b"'), 400, "invalid_json"),
    ("a NUL in a field that is ignored", _with("notes", '"a\\u0000b"'), 400, "invalid_json"),
    ("half a surrogate pair", _with("name", '"\\ud800"'), 400, "invalid_json"),
    ("the other half", _with("name", '"\\udc00\\ud800"'), 400, "invalid_json"),
    ("a line break in a name", _with("name", '"a\\nb"'), 422, "invalid_field"),
    ("an escape sequence in a name", _with("name", '"\\u001b[31mred"'), 422, "invalid_field"),
    ("a line separator in a name", _with("name", '"a\\u2028b"'), 422, "invalid_field"),
    ("a name of spaces", _with("name", '"   "'), 422, "invalid_field"),
    ("a name of 256 characters", _with("name", json.dumps("x" * 256)), 422, "invalid_field"),
    ("an action from Object's prototype", GOOD.replace(b'"create"', b'"__proto__"'), 422, "invalid_field"),
    ("an action that is a list", GOOD.replace(b'"create"', b'["create"]'), 422, "invalid_field"),
    ("one byte too many", _padded(LIMIT + 1), 413, "body_too_large"),
]

WHOLE = f"Content-Length: {len(GOOD)}"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
FRAMES: list[tuple[str, bytes, tuple[str, ...], int, str]] = [
    ("no Content-Type", GOOD, (WHOLE,), 415, "unsupported_media_type"),
    ("a form", b"action=create", ("Content-Type: application/x-www-form-urlencoded", "Content-Length: 13"), 415,
     "unsupported_media_type"),
    ("two Content-Types", GOOD, (JSON, "Content-Type: text/plain", WHOLE), 415, "unsupported_media_type"),
    ("a relative of JSON", GOOD, ("Content-Type: application/json-seq", WHOLE), 415, "unsupported_media_type"),
    ("another charset", GOOD, (f"{JSON}; charset=utf-16", WHOLE), 415, "unsupported_media_type"),
    ("compressed", gzip.compress(GOOD), (JSON, "Content-Encoding: gzip", f"Content-Length: {len(gzip.compress(GOOD))}"),
     415, "unsupported_media_type"),
    ("said to be compressed", GOOD, (JSON, "Content-Encoding: br", WHOLE), 415, "unsupported_media_type"),
    ("more announced than allowed", GOOD, (JSON, f"Content-Length: {LIMIT + 1}"), 413, "body_too_large"),
    ("more announced than is a number", GOOD, (JSON, f"Content-Length: {'9' * 30}"), 400, "invalid_http"),
    ("a length below zero", GOOD, (JSON, "Content-Length: -1"), 400, "invalid_http"),
    ("two lengths", GOOD, (JSON, WHOLE, "Content-Length: 3"), 400, "invalid_http"),
    ("chunks and a length", CHUNKED, (JSON, "Transfer-Encoding: chunked", "Content-Length: 3"), 400, "invalid_http"),
    ("a transfer coding that is none", CHUNKED, (JSON, "Transfer-Encoding: rot13"), 400, "invalid_http"),
    ("chunks that lie about their length", b"5\r\n" + GOOD, (JSON, "Transfer-Encoding: chunked"), 400, "invalid_http"),
    ("chunks without an end", b"%x\r\n%s\r\nzz" % (len(GOOD), GOOD), (JSON, "Transfer-Encoding: chunked"), 400,
     "invalid_http"),
    ("too much in chunks", b"%x\r\n%s\r\n0\r\n\r\n" % (LIMIT + 1, _padded(LIMIT + 1)),
     (JSON, "Transfer-Encoding: chunked"), 413, "body_too_large"),
]  # fmt: skip

ACCEPTED: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("as large as allowed", _padded(LIMIT), (JSON, f"Content-Length: {LIMIT}")),
    ("in chunks", CHUNKED, (JSON, "Transfer-Encoding: chunked")),
    ("a charset that is UTF-8", GOOD, ('Content-Type: Application/JSON; Charset="UTF-8"', WHOLE)),
    ("not encoded", GOOD, (JSON, "Content-Encoding: identity", WHOLE)),
    ("whole numbers as floats", _with("cpu", "4.0"), (JSON, f"Content-Length: {len(_with('cpu', '4.0'))}")),
]


def _refused(answer: Answer | None, status: int, code: str) -> None:
    assert answer is not None
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"]) == (status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status


@pytest.mark.parametrize(("body", "status", "code"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_a_body_that_is_refused_leaves_nothing(place: Place, body: bytes, status: int, code: str) -> None:
    before = place.counted()
    began = time.monotonic()
    _refused(spoken(place.api.port, posted(place, body)), status, code)
    assert time.monotonic() - began < IN_TIME_S
    assert place.counted() == before


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"), [row[1:] for row in FRAMES], ids=[row[0] for row in FRAMES]
)
def test_a_frame_that_is_refused_leaves_nothing(
    place: Place, body: bytes, headers: tuple[str, ...], status: int, code: str
) -> None:
    before = place.counted()
    began = time.monotonic()
    _refused(spoken(place.api.port, posted(place, body, *headers)), status, code)
    assert time.monotonic() - began < IN_TIME_S
    assert place.counted() == before


@pytest.mark.parametrize(("body", "headers"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_unusual_but_right_is_accepted(place: Place, body: bytes, headers: tuple[str, ...]) -> None:
    answer = spoken(place.api.port, posted(place, body, *headers))
    assert answer is not None
    assert answer.status == 202, answer.body


def test_a_body_that_ends_before_its_length_leaves_nothing(place: Place) -> None:
    before = place.counted()
    assert spoken(place.api.port, posted(place, GOOD, length=len(GOOD) + 1), then_close=True) is None
    assert place.counted() == before


NAMES: list[tuple[str, str]] = [
    ("Cyrillic", "сервер-01"),
    ("right to left", "خادم"),
    ("bidi overrides", "abc\u202egpj.exe\u202c"),
    ("bidi isolates", "\u2066x\u2069"),
    ("emoji", "🚀🇩🇪👩‍👩‍👧"),
    ("combining marks", "e\u0301\u0302\u0303"),
    ("not normalised", "\ufb01\u212b"),
    ("a zero-width space", "a\u200bb"),
    ("the last code point", "\U0010ffff"),
    ("HTML", "<script>alert(1)</script>"),
    ("SQL", "'; DROP TABLE vps; --"),
    ("a format string", "%s{0}${jndi:ldap://x}"),
    ("a backslash", "a\\u0000\\x"),
    ("255 characters of four bytes", "🚀" * 255),
]


@pytest.fixture(scope="module")
def caller(place: Place) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=place.api.url, timeout=120, trust_env=False) as made:
        yield made


def _shown(place: Place, caller: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    """The record as its owner sees it once the call is applied."""
    apply_operation(place.engine, answer.json()["operation"]["id"])
    seen = caller.get(f"/api/vps/{answer.json()['vps']['id']}", headers=place.api.client(5))
    assert seen.status_code == 200
    record: dict[str, Any] = seen.json()["data"]
    return record


@pytest.mark.parametrize("name", [row[1] for row in NAMES], ids=[row[0] for row in NAMES])
def test_an_accepted_name_comes_back_as_it_was(place: Place, caller: httpx.Client, name: str) -> None:
    answer = caller.post("/api/vps/sync", json=create_vps(name=name), headers=place.api.main_site)
    assert answer.status_code == 202, answer.text
    assert _shown(place, caller, answer)["name"] == name


NASTY: st.SearchStrategy[str] = st.one_of(
    st.sampled_from(
        ["null", "NaN", "1e400", "-0", "-0.0", "4.0", "true", "[]", "{}", '""', '"\\u0000"', '"\\ud800"', "9" * 400,
         str(2**31), str(2**63), "1.5", '"\\u202e"', '"\\r\\n"', '"creating"', "127", "128"]
    ),
    st.text(max_size=40).map(json.dumps),
    st.text(max_size=40).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.integers().map(str),
    st.floats().map(str),
)  # fmt: skip
FIELDS = [
    "user_id", "name", "cpu", "ram", "disk", "os", "status", "hypervisor", "ip_address", "order_id", "cluster", "vmid",
    "node", "guest_type", "unheard_of",
]  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A create with some fields of it replaced, doubled or left out; now and then cut, or with something behind."""
    fields = [(name, json.dumps(value)) for name, value in create_vps()["vps"].items()]
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=3)):
        if draw(st.integers(0, 9)):
            fields = [field for field in fields if field[0] != name]
        fields.append((name, draw(NASTY)))
    inner = ", ".join(f'"{name}": {value}' for name, value in fields)
    body = f'{{"action": "create", "vps": {{{inner}}}}}'.encode("utf-8", "surrogatepass")
    match draw(st.integers(0, 9)):
        case 0:
            return body[: draw(st.integers(0, len(body)))]
        case 1:
            return body + draw(st.binary(max_size=8))
        case _:
            return body


@settings(max_examples=80, deadline=None)
@given(bodies())
def test_any_body_is_all_or_nothing(place: Place, caller: httpx.Client, body: bytes) -> None:
    before = place.counted()
    headers = place.api.main_site | {"Content-Type": "application/json"}
    began = time.monotonic()
    answer = caller.post("/api/vps/sync", content=body, headers=headers)
    assert time.monotonic() - began < IN_TIME_S
    added = {name: count - before[name] for name, count in place.counted().items()}
    if answer.status_code == 202:
        assert (added["operations"], added["vps_queues"], added["vps"]) == (1, 1, 0)
        record, sent = _shown(place, caller, answer), json.loads(body)["vps"]
        assert (record["name"], record["os"]) == (sent["name"].strip(), sent["os"].strip())
    elif answer.status_code == 200:  # the order has its record already
        assert not any(added.values())
    else:
        assert answer.status_code in {400, 422}
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"]
        assert not any(added.values())
