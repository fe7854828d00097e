"""Notices when the machine itself stands still: PostgreSQL takes long for a commit although nothing was done to it.

A disk that others keep busy, or a processor that others have, is no fault of the panel. Answers in such a time are
judged as while PostgreSQL is away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from lab.chaos.phases import Failing

STALL_S = 0.5
"""A commit of a few bytes that takes this long. On an idle machine it takes some milliseconds."""

PAUSE_S = 0.2
COMMIT = text("SELECT pg_logical_emit_message(true, 'stall-watch', '')")
"""Written to the log of PostgreSQL, and to no table."""


class StallWatch:
    """Commits next to nothing, again and again, in a thread of its own."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._slow: list[Failing] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, once the commit under way is over."""
        self._ended.set()
        self._thread.join(30)

    def stalls(self, faults: Sequence[Failing], slack_s: float) -> list[Failing]:
        """When a commit was slow for no reason of ours, and a while longer. ``faults``: what was done to PostgreSQL."""
        return [
            Failing(slow.place, slow.since, slow.until + slack_s)
            for slow in self._slow
            if not any(fault.since <= slow.until and slow.since <= fault.until for fault in faults)
        ]

    def _watch(self) -> None:
        while not self._ended.wait(PAUSE_S):
            began = time.monotonic()
            try:
                with self._database.begin() as connection:
                    connection.execute(COMMIT)
            except DBAPIError:
                continue  # a fault: PostgreSQL is away by itself only if it is defective, and then answers tell
            took = time.monotonic() - began
            if took >= STALL_S:
                self._slow.append(Failing("postgres", began, began + took))
