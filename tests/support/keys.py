"""Secrets for one test: made anew each time, so that none can come to be relied on."""

from __future__ import annotations

import base64
import secrets


def random_key() -> str:
    """A key of 43 printable ASCII characters, good for API keys and JWT secrets alike."""
    return secrets.token_urlsafe(32)


def random_webhook_secret() -> str:
    """A secret that signs events."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
