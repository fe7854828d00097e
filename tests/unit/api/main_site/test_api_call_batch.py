"""What the body of a batch may be, and how an item's result tells what a single call is told by headers."""

from __future__ import annotations

from typing import Any

import pytest

from api.http.problems import ProblemError
from api.main_site.call_batch import MAX_BYTES, MAX_ITEMS, item_result, items_of, key_of

LIMIT = f"items must hold 1 to {MAX_ITEMS} sync calls, not "
BAD_BODIES: list[tuple[str, object, int, str, str]] = [
    ("a list", [{"action": "delete"}], 422, "invalid_field", "body must be a JSON object"),
    ("a single call", {"action": "delete", "vps": {"id": 1}}, 400, "missing_fields", "Missing required fields: items"),
    ("null counts as missing", {"items": None}, 400, "missing_fields", "Missing required fields: items"),
    ("one item without a list", {"items": {}}, 422, "invalid_field", "items must be a list of sync calls"),
    ("no item", {"items": []}, 422, "invalid_field", LIMIT + "0"),
    ("one too many", {"items": [None] * (MAX_ITEMS + 1)}, 422, "invalid_field", LIMIT + str(MAX_ITEMS + 1)),
]


@pytest.mark.parametrize(
    ("body", "status_code", "code", "message"), [row[1:] for row in BAD_BODIES], ids=[row[0] for row in BAD_BODIES]
)
def test_a_body_that_is_no_batch_is_refused_as_a_whole(body: object, status_code: int, code: str, message: str) -> None:
    with pytest.raises(ProblemError) as refused:
        items_of(body)
    error = refused.value
    assert (error.status_code, error.code, error.message) == (status_code, code, message)


def test_items_are_taken_as_they_are_up_to_the_limit() -> None:
    items: list[object] = [None, 7, {}] + [{}] * (MAX_ITEMS - 3)
    assert items_of({"items": items, "note": "ignored"}) == items


KEYS: list[tuple[str, object, str | None]] = [
    ("none", {}, None),
    ("null", {"idempotency_key": None}, None),
    ("no object at all", 7, None),
    ("bare", {"idempotency_key": "k-1"}, "k-1"),
    ("quoted as in the header", {"idempotency_key": '"k-1"'}, "k-1"),
]


@pytest.mark.parametrize(("item", "key"), [row[1:] for row in KEYS], ids=[row[0] for row in KEYS])
def test_an_items_key_is_read_as_the_header_is(item: object, key: str | None) -> None:
    assert key_of(item) == key


@pytest.mark.parametrize("key", ["", "a b", "ключ", "x" * 256, 7, True, ["k"]])
def test_a_key_that_is_none_is_refused(key: object) -> None:
    with pytest.raises(ProblemError) as refused:
        key_of({"idempotency_key": key})
    assert (refused.value.status_code, refused.value.code) == (400, "invalid_idempotency_key")


RESULTS: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"Location": "/api/vps/sync/operations/1"}, {}),
    ({"Retry-After": "5"}, {"retry_after": 5}),
    ({"Idempotent-Replayed": "true"}, {"idempotent_replayed": True}),
]


@pytest.mark.parametrize(("headers", "added"), RESULTS)
def test_a_result_is_the_body_with_what_the_headers_say(headers: dict[str, str], added: dict[str, Any]) -> None:
    body = {"status": "success", "message": "m"}
    assert item_result(202, body, headers) == {"http_status": 202, **body, **added}


def test_a_thousand_items_with_every_field_fit() -> None:
    item = (
        '{"action":"create","idempotency_key":"123e4567-e89b-42d3-a456-426614174000","vps":{"user_id":1234567,'
        '"name":"a-host-name-as-long-as-a-label-may-be-which-is-sixty-three.example.com","status":"creating","cpu":16,'
        '"ram":131072,"disk":2000,"os":"Ubuntu 24.04 LTS (Noble Numbat)","hypervisor":"proxmox","order_id":"7041234",'
        '"cluster":"cluster-frankfurt-01","vmid":123456789,"node":"node-17.frankfurt.example.com","guest_type":"qemu",'
        '"ip_address":"203.0.113.250","ip6_address":"2001:db8:1234:5678:9abc:def0:1234:5678"}}'
    )
    assert MAX_ITEMS * (len(item) + 1) < MAX_BYTES
