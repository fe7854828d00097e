"""Reads the request headers that change what a call does: ``Idempotency-Key``, ``Prefer``, conditional reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.types import Scope

from api.http.problems import ProblemError

QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?", re.IGNORECASE)
ETAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def header_values(scope: Scope, name: bytes) -> list[str]:
    """The values of a header, by its name in lower case."""
    return [value.decode("latin-1") for given, value in scope["headers"] if given == name]


def idempotency_key(values: Sequence[str]) -> str | None:
    """The key, bare or as the quoted string of the IETF draft. Raises ProblemError 400."""
    if not values:
        return None
    text = values[0].strip()
    if quoted := QUOTED.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", quoted[1])
    if len(values) > 1 or not VISIBLE.fullmatch(text):
        message = "Idempotency-Key must be one key of 1 to 255 visible ASCII characters"
        raise ProblemError(400, "invalid_idempotency_key", message)
    return text


def wait_seconds(values: Sequence[str], cap_s: float) -> int | None:
    """Whole seconds that ``Prefer: wait=N`` asks for, at most ``cap_s``; None without it. The first preference of this
    form counts, and all others are ignored (RFC 7240)."""
    for preference in ",".join(values).split(","):
        if wait := WAIT.fullmatch(preference.split(";")[0].strip()):
            return min(int(wait[1]), int(cap_s))
    return None


def etag_matches(values: Sequence[str], etag: str) -> bool:
    """Whether ``If-None-Match`` names this entity tag (weak comparison)."""
    joined = ",".join(values)
    return joined.strip() == "*" or etag.removeprefix("W/") in ETAG.findall(joined)


def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type says JSON, with or without parameters."""
    return (content_type or "").split(";")[0].strip().lower() == "application/json"


def is_utf8(content_type: str) -> bool:
    """Whether a Content-Type names no charset, or UTF-8 or a subset of it."""
    parameters = (part.strip().lower() for part in content_type.split(";")[1:])
    charsets = {part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")}
    return charsets <= {"utf-8", "utf8", "us-ascii"}
