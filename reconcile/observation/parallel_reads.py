"""Ask all clusters at once, and wait for none of them longer than for a while."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue

from domain.source_protocols import ClusterReading, GuestSource

AT_ONCE = 32
"""Threads. More clusters than that take turns."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the runs of a lane wait for the lists of all clusters together, seconds."""

    lane: str
    within_s: float


FAST, FULL = Patience("fast", 10.0), Patience("full", 60.0)
"""A list of 10,000 guests takes 2 s; that a node is not there is answered after 30 s, and all clusters wait with it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a cluster said, and after how long; ``took_s`` is None if it said nothing in time."""

    source: GuestSource
    reading: ClusterReading
    took_s: float | None


def read_all(sources: Sequence[GuestSource], within_s: float) -> Iterator[Answered]:
    """Each cluster's reading as it comes in, then those that are late, as readings from which nothing follows.

    Threads of late ones are left to their source's own time limits: they end by themselves, and what they then say is
    nobody's any more. An exception of a source is raised here.
    """
    began = time.monotonic()
    waiting, answers = deque(sources), SimpleQueue[tuple[GuestSource, ClusterReading | BaseException, float]]()

    def ask() -> None:
        while True:
            try:
                source = waiting.popleft()
            except IndexError:
                return
            said: ClusterReading | BaseException
            try:
                said = source.read()
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                said = error
            answers.put((source, said, time.monotonic() - began))

    for _ in range(min(AT_ONCE, len(sources))):
        threading.Thread(target=ask, name="cluster", daemon=True).start()
    missing = {source.cluster: source for source in sources}
    while missing:
        try:
            source, said, took_s = answers.get(timeout=max(0.0, began + within_s - time.monotonic()))
        except Empty:
            break
        del missing[source.cluster]
        if isinstance(said, BaseException):
            raise said
        yield Answered(source, said, took_s)
    waiting.clear()
    for source in missing.values():
        yield Answered(source, unread(source.cluster, f"no answer within {within_s:g} s"), None)


def not_asked(source: GuestSource, until: datetime) -> Answered:
    """For a cluster that was late last time."""
    problem = f"not asked before {until:%H:%M:%S} UTC: it did not answer in time"
    return Answered(source, unread(source.cluster, problem), None)


def unread(cluster: str, problem: str) -> ClusterReading:
    """A reading from which nothing follows."""
    nodes = frozenset[str]()
    return ClusterReading(cluster, (), nodes, nodes, complete=False, trusted=False, problems=(problem,))
