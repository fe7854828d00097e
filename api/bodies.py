"""Reading a request's body: bounded in size and time, and only as JSON."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request

from api.problems import ProblemError
from api.request_headers import is_json
from api.strict_json import InvalidJsonError, parse_json

BODY_S = 10.0  # seconds for a body to arrive


async def json_body(request: Request, limit: int) -> Any:  # noqa: ANN401 - JSON is any of six types
    """The body as strict JSON, of at most ``limit`` bytes, within BODY_S. Raises ProblemError."""
    if not is_json(request.headers.get("content-type")):
        raise ProblemError(415, "unsupported_media_type", "Content-Type must be application/json")
    try:
        async with asyncio.timeout(BODY_S):
            raw = await _read_body(request, limit)
    except TimeoutError:
        message = f"The body did not arrive within {BODY_S:.0f} s"
        raise ProblemError(408, "body_timeout", message, headers={"Connection": "close"}) from None
    try:
        return parse_json(raw)
    except InvalidJsonError as error:
        raise ProblemError(400, "invalid_json", f"Invalid JSON: {error}") from None


async def _read_body(request: Request, limit: int) -> bytes:
    """The body, never more of it in memory than the limit and one chunk."""
    too_large = ProblemError(
        413, "body_too_large", f"The body must not exceed {limit} bytes", headers={"Connection": "close"}
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)
