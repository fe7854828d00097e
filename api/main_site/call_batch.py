"""The body of a batch of sync calls, and the result of each item. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.http.problems import ProblemError
from api.http.request_headers import idempotency_key

MAX_ITEMS = 1000

MAX_BYTES = 1024 * 1024
"""1,048 bytes for each of MAX_ITEMS. An item with every field takes about 500. It is also what nginx lets through if
nothing else is set."""


def items_of(body: object) -> list[object]:
    """The items of a parsed body, unchecked. Raises ProblemError 400 or 422."""
    if not isinstance(body, dict):
        raise ProblemError(422, "invalid_field", "body must be a JSON object", field="body")
    items = body.get("items")
    if items is None:
        raise ProblemError(400, "missing_fields", "Missing required fields: items", missing=["items"])
    if not isinstance(items, list):
        raise ProblemError(422, "invalid_field", "items must be a list of sync calls", field="items")
    if not 1 <= len(items) <= MAX_ITEMS:
        message = f"items must hold 1 to {MAX_ITEMS} sync calls, not {len(items)}"
        raise ProblemError(422, "invalid_field", message, field="items")
    return items


def key_of(item: object) -> str | None:
    """An item's idempotency key, by the rules of the header. Raises ProblemError 400."""
    given = item.get("idempotency_key") if isinstance(item, dict) else None
    if given is None:
        return None
    return idempotency_key([given if isinstance(given, str) else ""])


def item_result(status_code: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """What the batch tells of an item: the body that a single call would get, with its status code and the headers that
    a caller acts on."""
    result = {"http_status": status_code, **body}
    if "Retry-After" in headers:
        result["retry_after"] = int(headers["Retry-After"])
    if "Idempotent-Replayed" in headers:
        result["idempotent_replayed"] = True
    return result
