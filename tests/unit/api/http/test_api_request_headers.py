"""Headers that change what a call does."""

from __future__ import annotations

import pytest

from api.http.problems import ProblemError
from api.http.request_headers import etag_matches, idempotency_key, is_json, wait_seconds


@pytest.mark.parametrize(
    ("values", "key"),
    [([], None), (["abc-1"], "abc-1"), (['"abc-1"'], "abc-1"), (['"a\\"b"'], 'a"b'), (["x" * 255], "x" * 255)],
    ids=["none", "bare", "quoted", "quoted with an escape", "longest"],
)
def test_idempotency_key(values: list[str], key: str | None) -> None:
    assert idempotency_key(values) == key


@pytest.mark.parametrize(
    "values",
    [[""], ['""'], ["x" * 256], ["a b"], ["ключ"], ["a\x7f"], ["a", "a"]],
    ids=["empty", "quoted empty", "too long", "space", "not ASCII", "control", "twice"],
)
def test_idempotency_key_is_refused(values: list[str]) -> None:
    with pytest.raises(ProblemError) as refused:
        idempotency_key(values)
    assert (refused.value.status_code, refused.value.code) == (400, "invalid_idempotency_key")


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], None),
        (["wait=5"], 5),
        (["Wait = 5"], 5),
        (['wait="5"'], 5),
        (["respond-async, wait=3"], 3),
        (["return=minimal", "wait=4; note=x"], 4),
        (["wait=600"], 10),
        (["wait=0"], 0),
        (["wait=2, wait=9"], 2),
        (["wait"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["await=5"], None),
    ],
    ids=str,
)
def test_prefer_wait(values: list[str], seconds: int | None) -> None:
    assert wait_seconds(values, 10.0) == seconds


@pytest.mark.parametrize(
    ("values", "matches"),
    [
        ([], False),
        (['"a"'], True),
        (['W/"a"'], True),
        (['"b", "a"'], True),
        (["*"], True),
        (['"b"'], False),
        (["a"], False),
    ],
    ids=str,
)
def test_if_none_match(values: list[str], *, matches: bool) -> None:
    assert etag_matches(values, '"a"') is matches


@pytest.mark.parametrize(
    ("given", "json"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("Application/JSON", True),
        ("text/plain", False),
        ("application/jsonp", False),
        ("", False),
        (None, False),
    ],
)
def test_content_type(given: str | None, *, json: bool) -> None:
    assert is_json(given) is json
