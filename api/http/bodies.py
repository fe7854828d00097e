"""Reads a request's body, bounded in size and time: JSON of programs, forms of browsers."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from api.http.framing import InvalidHttpError
from api.http.problems import ProblemError
from api.http.request_headers import header_values, is_json, is_utf8
from api.http.strict_json import InvalidJsonError, parse_json

BODY_S = 10.0  # seconds for a body to arrive


async def json_body(request: Request, limit: int) -> Any:  # noqa: ANN401 - JSON is any of six types
    """The body as strict JSON, of at most ``limit`` bytes, within BODY_S. Raises ProblemError."""
    return parsed(await json_bytes(request, limit))


async def json_bytes(request: Request, limit: int) -> bytes:
    """A body that says it is JSON, of at most ``limit`` bytes, within BODY_S. Raises ProblemError."""
    _require_plain_json(request)
    return await _bounded_body(request, limit)


def parsed(raw: bytes) -> Any:  # noqa: ANN401 - JSON is any of six types
    """Strict JSON. Raises ProblemError."""
    try:
        return parse_json(raw)
    except InvalidJsonError as error:
        raise ProblemError(400, "invalid_json", f"Invalid JSON: {error}") from None


HAS_ARRIVED = "panel.body_has_arrived"
"""The key in a request's scope under which the server says whether the whole body is there."""


def _unknown() -> bool:
    return False


FORM = "application/x-www-form-urlencoded"
FORM_FIELDS = 20


async def form_body(request: Request, limit: int) -> dict[str, str]:
    """The fields of a browser's form; of a field that is repeated, the last. Raises ProblemError."""
    types = request.headers.getlist("content-type")
    if len(types) != 1 or types[0].partition(";")[0].strip().lower() != FORM:
        raise ProblemError(415, "unsupported_media_type", f"Content-Type must be {FORM}")
    raw = await _bounded_body(request, limit)
    try:
        return dict(parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS))
    except ValueError:
        raise ProblemError(400, "invalid_form", "The form cannot be read") from None


async def _bounded_body(request: Request, limit: int) -> bytes:
    if request.scope.get(HAS_ARRIVED, _unknown)():
        return await _read_body(request, limit)  # without a timer: nothing of it is waited for
    try:
        async with asyncio.timeout(BODY_S):
            return await _read_body(request, limit)
    except TimeoutError:
        message = f"The body did not arrive within {BODY_S:.0f} s"
        raise ProblemError(408, "body_timeout", message, headers={"Connection": "close"}) from None
    except InvalidHttpError as error:
        raise ProblemError(error.status_code, error.code, error.message, headers={"Connection": "close"}) from None


def _require_plain_json(request: Request) -> None:
    """Refuse a body that would need conversion before parsing, such as a compressed one, which may be a bomb."""
    types = header_values(request.scope, b"content-type")
    if len(types) != 1 or not is_json(types[0]):
        raise ProblemError(415, "unsupported_media_type", "Content-Type must be application/json")
    if not is_utf8(types[0]):
        raise ProblemError(415, "unsupported_media_type", "JSON is UTF-8: leave the charset of Content-Type out")
    encodings = ",".join(header_values(request.scope, b"content-encoding")).strip().lower()
    if encodings not in {"", "identity"}:
        message = "Content-Encoding must be left out: a compressed body is not accepted"
        raise ProblemError(415, "unsupported_media_type", message, headers={"Accept-Encoding": "identity"})


async def _read_body(request: Request, limit: int) -> bytes:
    """The body. Memory never holds more of it than the limit and one chunk."""
    declared = "".join(header_values(request.scope, b"content-length"))
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> ProblemError:
    message = f"The body must not exceed {limit} bytes"
    return ProblemError(413, "body_too_large", message, headers={"Connection": "close"})
