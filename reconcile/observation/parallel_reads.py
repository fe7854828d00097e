"""Asks all clusters at the same time, and waits for each only so long."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue

import structlog

from domain.source_protocols import ClusterReading, GuestSource, untrusted_reading

log = structlog.get_logger(__name__)

AT_ONCE = 32
"""How many threads. With more clusters than that, they take turns."""

ROOM = 8
"""How many answers may wait to be taken. A thread whose answer has no room asks nobody else, so memory stays flat."""

LULL_S = 0.05
"""After so long without an answer the caller may use the time."""


@dataclass(frozen=True, slots=True)
class ReadDeadline:
    """How many seconds the runs of one kind (``lane``) wait for the lists of all clusters together."""

    lane: str
    within_s: float


FAST, FULL = ReadDeadline("fast", 10.0), ReadDeadline("full", 60.0)
"""A list of 10,000 guests takes 2 s. A cluster may answer only after 30 s that a node is away: a full run waits for
that, the fast lane does not."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A cluster's answer and how long it took; ``took_s`` is None if none came in time. ``at``: when it had come
    (monotonic clock)."""

    source: GuestSource
    reading: ClusterReading
    took_s: float | None
    at: float


class ParallelReads:
    """Each cluster's reading as it arrives, then the late ones as readings from which nothing follows. None where
    nothing more has arrived for a moment, so that the caller can use the time.

    A late cluster's thread ends by its source's own time limits, and its answer is dropped. A source that fails in
    a way that nobody foresaw gives a reading from which nothing follows, too: one cluster never ends the lanes of all.
    Only the time that the caller waits here counts against ``within_s``: what it does with an answer delays the others,
    and is not their fault.
    """

    def __init__(self, sources: Sequence[GuestSource], within_s: float) -> None:
        self._sources, self._within_s = sources, within_s
        self.left_s = within_s
        """How many seconds are left to wait."""
        self._waiting, self._answers = deque(sources), SimpleQueue[tuple[GuestSource, ClusterReading, float, float]]()
        self._room = threading.Semaphore(ROOM)

    def __iter__(self) -> Iterator[Answered | None]:
        for _ in range(min(AT_ONCE, len(self._sources))):
            # In a copy of the context, so that a log line of the thread names the run, too.
            threading.Thread(target=copy_context().run, args=(self._ask,), name="cluster", daemon=True).start()
        missing = {source.cluster: source for source in self._sources}
        try:
            while missing:
                began = time.monotonic()
                try:
                    source, reading, asked, at = self._answers.get(timeout=min(LULL_S, self.left_s))
                except Empty:
                    self.left_s = max(0.0, self.left_s - (time.monotonic() - began))
                    if not self.left_s:
                        break
                    yield None
                    continue
                self.left_s = max(0.0, self.left_s - (time.monotonic() - began))
                self._room.release()
                del missing[source.cluster]
                yield Answered(source, reading, at - asked, at)
        finally:
            self._waiting.clear()
            self._room.release(AT_ONCE)  # nobody takes any more answers, and nobody shall wait to give one
        for source in missing.values():
            reading = untrusted_reading(source.cluster, f"no answer within {self._within_s:g} s")
            yield Answered(source, reading, None, time.monotonic())

    def _ask(self) -> None:
        while True:
            try:
                source = self._waiting.popleft()
            except IndexError:
                return
            asked = time.monotonic()
            reading, at = _reading_of(source), time.monotonic()
            self._room.acquire()
            self._answers.put((source, reading, asked, at))


def _reading_of(source: GuestSource) -> ClusterReading:
    try:
        return source.read()
    except Exception as error:  # the traceback is logged; the sentence names no value of the answer
        log.exception("cluster_read_failed", cluster=source.cluster)
        kind = type(error).__name__
        return untrusted_reading(
            source.cluster, f"its answer could not be read ({kind}): the worker's log says where; please report it"
        )


def not_asked(source: GuestSource, until: datetime) -> Answered:
    """The answer for a cluster that was late last time."""
    problem = f"not asked before {until:%H:%M:%S} UTC: it did not answer in time"
    return Answered(source, untrusted_reading(source.cluster, problem), None, time.monotonic())
