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


def read_all(sources: Sequence[GuestSource], within_s: float) -> Iterator[Answered]:
    """Each cluster's reading as it arrives, then the late ones as readings from which nothing follows.

    A late cluster's thread ends by its source's own time limits, and its answer is dropped. A source that fails in
    a way that nobody foresaw gives a reading from which nothing follows, too: one cluster never ends the lanes of all.
    """
    began = time.monotonic()
    waiting, answers = deque(sources), SimpleQueue[tuple[GuestSource, ClusterReading, float]]()

    def ask() -> None:
        while True:
            try:
                source = waiting.popleft()
            except IndexError:
                return
            answers.put((source, _reading_of(source), time.monotonic()))

    for _ in range(min(AT_ONCE, len(sources))):
        # In a copy of the context, so that a log line of the thread names the run, too.
        threading.Thread(target=copy_context().run, args=(ask,), name="cluster", daemon=True).start()
    missing = {source.cluster: source for source in sources}
    while missing:
        try:
            source, reading, at = answers.get(timeout=max(0.0, began + within_s - time.monotonic()))
        except Empty:
            break
        del missing[source.cluster]
        yield Answered(source, reading, at - began, at)
    waiting.clear()
    for source in missing.values():
        reading = untrusted_reading(source.cluster, f"no answer within {within_s:g} s")
        yield Answered(source, reading, None, time.monotonic())


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
