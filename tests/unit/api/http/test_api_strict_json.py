"""JSON as the API reads it: strict where parsers disagree."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http import strict_json
from api.http.strict_json import MAX_DEPTH, InvalidJsonError, canonical_hash, parse_json

REFUSED: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "Expecting value at line 1, column 1"),
    ("cut off", b'{"a": 1', "Expecting ',' delimiter at line 1, column 8"),
    ("a form", b"action=create", "Expecting value at line 1, column 1"),
    ("two values", b"{} {}", "Extra data at line 1, column 4"),
    ("a key twice", b'{"a": 1, "a": 2}', "a key occurs twice in one object"),
    ("a key twice further down", b'{"v": [{"a": 1, "\\u0061": 2}]}', "a key occurs twice in one object"),
    ("NaN", b'{"ram": NaN}', "NaN is not a JSON value"),
    ("Infinity", b"[-Infinity]", "-Infinity is not a JSON value"),
    ("a number without end", b"1e999", "a number is too large"),
    ("more digits than can be an integer", b"[" + b"9" * 5000 + b"]", "a number is too large"),
    ("a raw NUL", b'"\x00"', "Invalid control character at at line 1, column 2"),
    ("an escaped NUL", b'{"name": "a\\u0000b"}', "a text contains a NUL character"),
    ("a NUL in a key", b'{"a\\u0000": 1}', "a text contains a NUL character"),
    ("half a surrogate pair", b'["\\ud800"]', "a text contains half of a surrogate pair"),
    ("Latin-1", b'{"name": "\xe9"}', "the text is not UTF-8"),
    ("UTF-16", '{"a": 1}'.encode("utf-16"), "the text is not UTF-8"),
    ("deeper than needed", b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper than 32 levels"),
    ("a value deeper than needed", b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH, "nested deeper than 32 levels"),
    ("a byte order mark", b"\xef\xbb\xbf{}", "Unexpected UTF-8 BOM (decode using utf-8-sig) at line 1, column 1"),
    ("deeper than the stack", b"[" * 30_000 + b"]" * 30_000, "nested deeper than 32 levels"),
]


@pytest.mark.parametrize(("raw", "why"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_with_its_reason(raw: bytes, why: str) -> None:
    with pytest.raises(InvalidJsonError) as refused:
        parse_json(raw)
    assert str(refused.value) == why


def test_the_deepest_allowed_is_allowed() -> None:
    parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=10,
)


@given(VALUES)
def test_what_json_writes_is_read_back(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert canonical_hash(parse_json(json.dumps(value, indent=2).encode())) == canonical_hash(value)


@given(
    st.recursive(st.text() | st.floats() | st.integers(), lambda inner: st.lists(inner, max_size=3)), st.integers(0, 34)
)
def test_a_text_in_ascii_is_judged_like_any_other(value: object, depth: int) -> None:
    """Most texts in ASCII are not searched for what is refused: it cannot be in them."""
    text = "[" * depth + json.dumps(value) + "]" * depth
    assert judged(text) == judged(text, searched=True)


def judged(text: str, *, searched: bool = False) -> object:
    """The value, or why there is none."""
    with pytest.MonkeyPatch.context() as patch:
        if searched:
            patch.setattr(strict_json, "_is_harmless", lambda _raw: False)
        try:
            return repr(parse_json(text.encode()))
        except InvalidJsonError as error:
            return str(error)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_refusal(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except InvalidJsonError:
        return
    assert canonical_hash(value)


def test_the_hash_tells_bodies_apart_but_not_their_spelling() -> None:
    one = canonical_hash(parse_json(b'{"a": 1, "b": [1, 2]}'))
    assert canonical_hash(parse_json(b'{"b":[1,2],"a":1}')) == one
    assert canonical_hash(parse_json(b'{"b":[2,1],"a":1}')) != one
