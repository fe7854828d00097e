"""Whether a message in Redis is ours. Pure: it takes a raw message and returns a fault or None.

Celery and kombu expect that Celery wrote everything in their queues. A text that is not JSON, a message without
headers, or a time limit that is not a pair ends the worker, or costs it one slot each time. So only messages that
the panel could have written reach them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

MAX_BODY = 16_384
"""Characters. The panel's messages hold an id and some names, and have about 700 characters."""

MAX_ID = 255

MOST_NUMBERS = 500
"""In one argument. A message of several sync calls names them by a list of their operations."""

MOMENTS = ("eta", "expires")
OPTIONAL_TEXTS = (*MOMENTS, "group", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "shadow")
UNUSED = ("callbacks", "errbacks", "chain", "chord")
"""Parts of Celery's messages that name further tasks. The panel sends none."""


def envelope_fault(raw: object) -> str | None:
    """What is wrong with a message's envelope, whether it is a task, an event or a control command."""
    if not isinstance(raw, dict):
        return "not an object"
    properties = raw.get("properties")
    if not isinstance(properties, dict) or not isinstance(raw.get("headers"), dict):
        return "no properties or headers"
    delivery = properties.get("delivery_info")
    if not isinstance(delivery, dict) or not all(isinstance(delivery.get(n), str) for n in ("exchange", "routing_key")):
        return "no delivery information"
    if not _short_text(properties.get("delivery_tag")):
        return "no delivery tag"
    if raw.get("content-type") != "application/json" or raw.get("content-encoding") != "utf-8":
        return "another content type"
    return None if _body_of(raw) is not None else "unreadable body"


def task_fault(raw: object, known: Collection[str]) -> str | None:
    """Why a message of a queue is not ours. ``known``: the names of our tasks."""
    if (fault := envelope_fault(raw)) is not None:
        return fault
    assert isinstance(raw, dict)  # noqa: S101 - for the type checker: envelope_fault has checked it
    headers: dict[str, Any] = raw["headers"]
    if not isinstance(headers.get("task"), str) or headers["task"] not in known:
        return "unknown task"
    if not _short_text(headers.get("id")):
        return "no task id"
    if not all(headers.get(name) is None or isinstance(headers[name], str) for name in OPTIONAL_TEXTS):
        return "wrong header"
    if not all(headers.get(name) is None or _moment(headers[name]) for name in MOMENTS):
        return "wrong header"
    if not _count(headers.get("retries")) or not _limits(headers.get("timelimit")):
        return "wrong header"
    if any(headers.get(name) for name in ("stamped_headers", "stamps", "replaced_task_nesting", "group_index")):
        return "wrong header"
    return _call_fault(_body_of(raw) or b"")


def _call_fault(body: bytes) -> str | None:
    if len(body) > MAX_BODY:
        return "too large"
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return "unreadable body"
    if not isinstance(call, list) or len(call) != 3:
        return "wrong arguments"
    arguments, named, embedded = call
    if not isinstance(arguments, list) or not isinstance(named, dict) or not isinstance(embedded, dict):
        return "wrong arguments"
    if not all(isinstance(value, str | int) or _numbers(value) for value in (*arguments, *named.values())):
        return "wrong arguments"
    return "names further tasks" if any(embedded.get(name) for name in UNUSED) else None


def _body_of(raw: dict[str, Any]) -> bytes | None:
    """The body's bytes; None if it cannot be read."""
    body, encoding = raw.get("body"), raw["properties"].get("body_encoding")
    if not isinstance(body, str):
        return None
    if encoding is None:
        return body.encode("utf-8", "surrogatepass")
    if encoding != "base64":
        return None
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return None


def _short_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID


def _numbers(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MOST_NUMBERS and all(type(n) is int for n in value)


def _moment(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _count(value: object) -> bool:
    return value is None or (isinstance(value, int) and 0 <= value < 1_000_000)


def _limits(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and len(value) == 2 and all(limit is None or _positive(limit) for limit in value)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
