"""Ends a worker that got a signal to end, even if it hangs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

log = structlog.get_logger(__name__)

END_SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


def end_within(seconds: float) -> None:
    """End this process if it still runs ``seconds`` after a signal to end. The work in hand stays in the journal.

    Call this from the main thread, after Celery has set its handlers. A second call does nothing: Celery reports a
    worker as ready again whenever Redis is back.

    Celery 5.7 waits for ever for a pool that it has killed, if the signal comes while it connects to Redis again. It
    logs the signal only after that wait.
    """
    for number in END_SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler) and not isinstance(handler, _WithDeadline):
            signal.signal(number, _WithDeadline(handler, seconds))


@dataclass(frozen=True, slots=True)
class _WithDeadline:
    """A signal handler that starts the deadline, and then calls Celery's handler."""

    handler: Callable[..., Any]
    seconds: float

    def __call__(self, *args: Any) -> None:  # noqa: ANN401 - as signal gives them
        timer = threading.Timer(self.seconds, _end, (self.seconds,))
        timer.daemon = True
        timer.start()
        self.handler(*args)


def _end(seconds: float) -> None:
    log.error("worker_hangs_at_its_end", told_s_ago=seconds)
    os._exit(1)
