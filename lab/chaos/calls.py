"""Marked calls: what a caller said of one machine, and how the panel answered.

Each call about a machine names another address for it. This mark is kept in the journal and in the record.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import httpx

SYNC_PATH = "/api/vps/sync"
TIMEOUT_S = 10.0
UNKNOWN = "outcome_unknown"
UNSENT = "unsent"
"""No connection was made, so nothing of the call can have arrived."""

_FIRST = int(IPv4Address("10.0.0.0"))


@dataclass(frozen=True, slots=True)
class Said:
    """One call and its answer. ``at``: seconds of the monotonic clock. ``mark``: what it wrote. ``operation``: if it
    was accepted. ``code``: of a problem. ``status``: None if there was no answer at all. ``keyed``: it had an
    Idempotency-Key, the same for each repeat."""

    at: float
    took_s: float
    mark: str
    status: int | None
    operation: int | None = None
    code: str | None = None
    retry_after: str | None = None
    keyed: bool = False

    @property
    def open(self) -> bool:
        """Whether the caller does not know if the call was accepted."""
        return self.code == UNKNOWN or (self.status is None and self.code != UNSENT)


def mark_of(number: int) -> str:
    """The mark of a machine's call of that number, up to 16 million. Sold orders name no address, so reconciliation
    never contradicts a mark."""
    return str(IPv4Address(_FIRST + number))


def say(
    client: httpx.Client, mark: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> tuple[Said, int | None]:
    """Make the call. Returns what was said and answered, and the VPS's id if the call was accepted."""
    keyed = "Idempotency-Key" in (headers or {})
    began = time.monotonic()
    try:
        answer = client.post(SYNC_PATH, json=body, headers=headers)
    except httpx.TransportError as error:
        code = UNSENT if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)) else None
        return Said(began, time.monotonic() - began, mark, None, code=code, keyed=keyed), None
    took_s, told = time.monotonic() - began, answer.json()
    if answer.status_code in (200, 202):
        operation = int(told["operation"]["id"])
        return Said(began, took_s, mark, answer.status_code, operation, keyed=keyed), int(told["vps"]["id"])
    retry = answer.headers.get("Retry-After")
    return Said(began, took_s, mark, answer.status_code, code=told["code"], retry_after=retry, keyed=keyed), None
