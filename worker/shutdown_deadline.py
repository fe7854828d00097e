"""Ends a worker that was told to end, whatever it hangs in."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

log = structlog.get_logger(__name__)

TOLD_BY = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


def end_within(seconds: float) -> None:
    """End this process if it still runs ``seconds`` after it was told to end. For the main thread, after Celery has set
    its handlers. A second call does nothing (a worker is ready again when Redis is back).

    Celery 5.7 waits for ever for a pool that it has killed if the signal comes while it connects to Redis again, and
    logs the signal only after that. The work in hand is in the journal.
    """
    for number in TOLD_BY:
        theirs = signal.getsignal(number)
        if callable(theirs) and not isinstance(theirs, _CountingFirst):
            signal.signal(number, _CountingFirst(theirs, seconds))


@dataclass(frozen=True, slots=True)
class _CountingFirst:
    theirs: Callable[..., Any]
    seconds: float

    def __call__(self, *args: Any) -> None:  # noqa: ANN401 - as signal gives them
        last_resort = threading.Timer(self.seconds, _end, (self.seconds,))
        last_resort.daemon = True
        last_resort.start()
        self.theirs(*args)


def _end(seconds: float) -> None:
    log.error("worker_hangs_at_its_end", told_s_ago=seconds)
    os._exit(1)
