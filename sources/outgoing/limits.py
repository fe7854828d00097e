"""How long an answer may take and how large it may be, for one exchange at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from sources.outgoing.faults import Malformed, TimedOut

HEAD_BYTES = 256 * 1024
"""Of an answer's head, the interim answers (1xx) before it and a proxy's own answer. Real ones have a few KB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one exchange, in seconds and bytes.

    ``connect_s``: to the end of the TLS handshake. ``read_s``: silence. ``answer_s``: everything together, from the
    look-up of the name to the last byte. ``body_bytes``: of the body, as it arrives and as it is after decompression.
    """

    connect_s: float
    read_s: float
    answer_s: float
    body_bytes: int


class Exchange:
    """One request and its answer, on the wire: what is left of its time and of its bytes."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._ends = time.monotonic() + limits.answer_s
        self._bytes_left = HEAD_BYTES
        self._larger = "the answer's head is larger than it may be"

    def left_s(self, at_most: float | None = None) -> float:
        """Seconds that an operation may take. Raises ``TimedOut`` when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimedOut(f"the answer took longer than {self.limits.answer_s:g} s")
        return left if at_most is None else min(left, at_most)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends

    def took(self, count: int) -> None:
        """Note bytes that arrived. Raises ``Malformed`` when there were too many."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise Malformed(self._larger)

    def body_begins(self, body_bytes: int) -> None:
        """The head has arrived. What comes on the wire may be the body twice: chunks have heads of their own."""
        self._bytes_left = 2 * body_bytes + HEAD_BYTES
        self._larger = f"the answer is larger than {body_bytes} bytes"


_current: ContextVar[Exchange] = ContextVar("exchange")


@contextmanager
def under_way(exchange: Exchange) -> Iterator[None]:
    """Make it the one that the connections of this thread work for."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)


def current_exchange() -> Exchange:
    """The one that is under way here."""
    return _current.get()
