"""A server to which the panel sends messages by itself. Of an answer only the status and ``Retry-After`` are read.

Redirects are not followed, and the body of an answer is never read. A name is looked up once for each connection, and
the connection goes to the address that was checked, so a name that changes its address meanwhile gains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from pathlib import Path
from time import time

from sources.outgoing.client import Client
from sources.outgoing.faults import PrivateAddress, SourceFault
from sources.outgoing.sockets import Limits
from sources.outgoing.tls import trusting_authorities

TOO_BUSY = frozenset({408, 425, 429})
"""Refusals that would meet any other message, too."""


class Verdict(Enum):
    """What became of a message."""

    TAKEN = auto()
    REFUSED = auto()  # this message; the receiver may take others
    AWAY = auto()  # the receiver did not answer, or would take no message now


@dataclass(frozen=True, slots=True)
class Reply:
    """What the receiver said. ``problem``: why the message was not taken, without the address, which may hold a key.
    ``retry_after_s``: for how long it asked to be left alone, in seconds. ``private``: nothing was sent, because
    it has no public address."""

    verdict: Verdict
    status: int | None = None
    problem: str | None = None
    retry_after_s: float | None = None
    private: bool = False


class Receiver:
    """One address. Used by one thread at a time."""

    def __init__(
        self,
        url: str,
        *,
        limits: Limits,
        ca_file: Path | None = None,
        proxy: str | None = None,
        public_only: bool = False,
    ) -> None:
        """``public_only``: connect to public addresses only; with a proxy this is the proxy's business. Raises
        ``ValueError`` for an unusable authority or proxy."""
        self._client = Client(
            url,
            tls=trusting_authorities(ca_file),
            limits=limits,
            headers={"Content-Type": "application/json"},
            proxy=proxy,
            public_only=public_only,
        )

    def post(self, content: bytes, headers: Mapping[str, str]) -> Reply:
        """Send a message."""
        try:
            answer = self._client.exchange("POST", headers=headers, content=content, status_only=True)
        except SourceFault as fault:
            return Reply(Verdict.AWAY, problem=str(fault), private=isinstance(fault, PrivateAddress))
        if 200 <= answer.status < 300:
            return Reply(Verdict.TAKEN, answer.status)
        refused = 400 <= answer.status < 500 and answer.status not in TOO_BUSY
        asked = None if refused else retry_after_s(answer.headers.get("Retry-After"), time())
        return Reply(Verdict.REFUSED if refused else Verdict.AWAY, answer.status, f"answered {answer.status}", asked)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def retry_after_s(value: str | None, now: float) -> float | None:
    """The seconds that ``Retry-After`` asks for, in either of its forms; None without one that can be read. ``now``:
    seconds since 1970."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", seconds := value.strip(" \t")):
        return float(seconds)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None
