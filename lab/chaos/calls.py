"""Marked calls: what a caller sent about one machine, and how the panel answered.

Each call about a machine names another address for it. The journal and the record keep this address, so it marks the
call.
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
"""No connection was made, so the call cannot have arrived."""

_FIRST = int(IPv4Address("10.0.0.0"))


@dataclass(frozen=True, slots=True)
class MarkedCall:
    """One call and its answer. ``at``: seconds of the monotonic clock. ``mark``: the address that it named.
    ``operation``: its id, if the call was accepted. ``code``: the code of a refusal. ``status``: None if there was no
    answer at all. ``keyed``: whether it had an Idempotency-Key, the same for each repeat."""

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
    """The mark of a machine's ``number``-th call, up to 16 million. Orders of these machines name no address, so no run
    ever changes a mark."""
    return str(IPv4Address(_FIRST + number))


def make_call(
    client: httpx.Client, mark: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> tuple[MarkedCall, int | None]:
    """Make the call. Returns it with its answer, and the VPS's id if the call was accepted."""
    keyed = "Idempotency-Key" in (headers or {})
    began = time.monotonic()
    try:
        answer = client.post(SYNC_PATH, json=body, headers=headers)
    except httpx.TransportError as error:
        code = UNSENT if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)) else None
        return MarkedCall(began, time.monotonic() - began, mark, None, code=code, keyed=keyed), None
    took_s, reply = time.monotonic() - began, answer.json()
    if answer.status_code in (200, 202):
        operation = int(reply["operation"]["id"])
        return MarkedCall(began, took_s, mark, answer.status_code, operation, keyed=keyed), int(reply["vps"]["id"])
    retry = answer.headers.get("Retry-After")
    return MarkedCall(began, took_s, mark, answer.status_code, code=reply["code"], retry_after=retry, keyed=keyed), None
