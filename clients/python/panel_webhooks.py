"""Verifies the events that panel-sync sends to a main site: one module, nothing but the standard library.

The events follow the Standard Webhooks specification, so its libraries verify them as well.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

TOLERANCE_S = 300
"""How far ``webhook-timestamp`` may be from this machine's clock, so that nobody can send an old request again."""


SHORTEST_KEY = 24
"""Bytes. With an empty secret anybody could sign."""


class WebhookError(Exception):
    """The request is not from the panel, or is too old: answer 400 or 401, and do nothing."""


def verify_webhook(
    body: bytes | str, headers: Mapping[str, str], secret: str, *, now: float | None = None
) -> dict[str, Any]:
    """The event of a request. ``body``: as it arrived, to the byte; not parsed and written again. ``secret``: as
    MAIN_SITE_WEBHOOK_SECRET of the panel. ``now``: seconds since 1970. Raises ``WebhookError``, and ValueError if the
    secret itself is none: that is a fault of the main site's own settings."""
    key = _key(secret)
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, sent_at, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        age_s = (time.time() if now is None else now) - int(sent_at)
    except (KeyError, ValueError):
        raise WebhookError("a header is missing or wrong") from None
    if abs(age_s) > TOLERANCE_S:
        raise WebhookError("it was sent too long ago, or a clock is wrong")
    content = body.encode() if isinstance(body, str) else body
    signed = f"{message_id}.{sent_at}.".encode() + content
    expected = hmac.new(key, signed, hashlib.sha256).digest()
    if not any(hmac.compare_digest(expected, one) for one in _signatures(signatures)):
        raise WebhookError("no signature is right: another secret, or the body was changed")
    event: dict[str, Any] = json.loads(content)
    return event


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if len(key) < SHORTEST_KEY:
        raise ValueError("the secret is not set right: it must be whsec_ and at least 24 bytes in base64")
    return key


def _signatures(header: str) -> list[bytes]:
    """Those of version 1. There are two while the secret is being changed."""
    found = []
    for one in header.split(" "):
        version, _, encoded = one.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(encoded, validate=True))
            except (binascii.Error, ValueError):
                continue
    return found
