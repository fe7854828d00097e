"""How long an answer may take and how large it may be, for one exchange at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from sources.outgoing.faults import Malformed, TimedOut

HEAD_BYTES = 256 * 1024
"""For an answer's head, with the interim answers (1xx) before it and a proxy's own answer. Real ones have a few KB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one exchange, in seconds and bytes.

    ``connect_s``: to the end of the TLS handshake. ``read_s``: the longest silence. ``answer_s``: everything, from the
    name look-up to the last byte. ``body_bytes``: of the body, both as it arrives and after decompression.
    """

    connect_s: float
    read_s: float
    answer_s: float
    body_bytes: int


class Exchange:
    """One request and its answer on the wire: how much time and how many bytes are left."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._ends = time.monotonic() + limits.answer_s
        self._bytes_left = HEAD_BYTES
        self._larger = "the answer's head is larger than it may be"

    def left_s(self, at_most: float | None = None) -> float:
        """Seconds that an operation may take. Raises ``TimedOut`` if none are left."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimedOut(f"the answer took longer than {self.limits.answer_s:g} s")
        return left if at_most is None else min(left, at_most)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends

    def took(self, count: int) -> None:
        """Count bytes that arrived. Raises ``Malformed`` if there were too many."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise Malformed(self._larger)

    def body_begins(self, body_bytes: int) -> None:
        """The head has arrived. A chunked body may be twice as large on the wire, because each chunk has a head."""
        self._bytes_left = 2 * body_bytes + HEAD_BYTES
        self._larger = f"the answer is larger than {body_bytes} bytes"


_current: ContextVar[Exchange] = ContextVar("exchange")


@contextmanager
def under_way(exchange: Exchange) -> Iterator[None]:
    """Make this the exchange that this thread's connections work for."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)


def current_exchange() -> Exchange:
    """The exchange that this thread works for."""
    return _current.get()
