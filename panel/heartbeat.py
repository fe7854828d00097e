"""Heartbeats: each process beats from the loop that does its work, and ends itself when that loop hangs.

``PANEL_HEARTBEAT_FILE`` names a file for health checks: ``python -m panel.heartbeat`` exits with 1 if the last beat in
it is old. A container's health check only reports. So a process that hangs also ends itself, and its supervisor starts
it again. A process that waits for Redis or PostgreSQL beats all the same, because a restart would not help.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
OLD_S = 30.0
HANGS_S = 60
VARIABLE = "PANEL_HEARTBEAT_FILE"


class Pulse:
    """This process's beats. ``clock``: seconds that do not jump when the system's clock is set."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.count = 0
        self._written = 0.0
        self._watched = False

    def beat(self) -> None:
        """Count one pass of the loop."""
        self.count += 1
        name = os.environ.get(VARIABLE)
        if name and self.clock() - self._written >= 1:
            self._written = self.clock()
            # A full disk must not end the process.
            with contextlib.suppress(OSError):
                Path(name).write_text(f"{self._written:.3f}\n", encoding="ascii")

    def watch(self) -> None:
        """End this process, from a thread, after ``HANGS_S`` seconds without a beat. A second call does nothing."""
        if not self._watched:
            self._watched = True
            threading.Thread(target=self._watch, args=(HANGS_S,), name="heartbeat", daemon=True).start()

    def _watch(self, hangs_s: int) -> None:
        seen, silent = self.count, 0
        # Seconds are counted as sleeps, not measured: while the machine slept or the process was stopped, this thread
        # did not count either.
        while silent < hangs_s:
            time.sleep(1)
            silent = silent + 1 if self.count == seen else 0
            seen = self.count
        log.critical("hangs", no_beat_for_s=silent)
        faulthandler.dump_traceback(all_threads=True)  # shows where it hangs: lines of code, no values
        os._exit(1)


@dataclass(slots=True)
class MessageIntake:
    """Whether a worker takes messages. ``last``: when it last took one or waited for one, on the pulse's clock."""

    last: float

    def took(self, now: float) -> None:
        """It took a message. With a steady backlog it takes one after the other, and is never seen to wait."""
        self.last = now

    def is_healthy(self, now: float, *, waits: bool, limit_s: float) -> bool:
        """Whether the worker still takes messages. ``waits``: it has asked for the next one. ``limit_s``: how long its
        current work may take."""
        if waits:
            self.last = now
        return now - self.last <= limit_s


pulse = Pulse()


def main() -> int:
    """The health check. Returns the exit code: 0 while the heartbeat is fresh."""
    name = os.environ.get(VARIABLE)
    if not name:
        sys.stderr.write(f"{VARIABLE} is not set\n")
        return 2
    try:
        age = time.monotonic() - float(Path(name).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        sys.stderr.write(f"no heartbeat yet in {name}\n")
        return 1
    # -1 for rounding. A beat from before a restart of the machine seems to lie far in the future.
    if not -1 <= age <= OLD_S:
        sys.stderr.write(f"the last heartbeat is {age:.0f} s old\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
