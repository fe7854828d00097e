"""Counts the attempts that killed their process.

The worker notes an attempt before it makes it, and takes the note back when the attempt ends. So the notes that remain
are attempts that ended with their process. The database may go away in between. Then the worker takes the note back as
soon as it can: an outage of the database must never make a call dead.
"""

from __future__ import annotations

import threading
from collections import Counter

from sqlalchemy import Engine, text

NOT_ENDED = "the message that it shared with others did not come to an end"
LOCKED = "waiting: another transaction holds the VPS"
NO_FAILURE = frozenset({NOT_ENDED, LOCKED})
"""What is noted as the error of a call that has not failed, but gets a message of its own."""

NOTE_ATTEMPT = text(
    "UPDATE operations SET attempts = attempts + 1 WHERE state = 'queued' AND id = ("
    " SELECT id FROM operations WHERE vps_id = :vps_id AND state = 'queued' AND seq <= :up_to ORDER BY seq LIMIT 1"
    ") RETURNING id, vps_id, seq, action, attempts, error"
)
TAKE_BACK = text("UPDATE operations SET attempts = greatest(attempts - :notes, 0) WHERE id = :id AND state = 'queued'")
NOTE_FAILURE = text(
    "UPDATE operations SET error = :why, publish_at = clock_timestamp() + make_interval(secs => :wait)"
    " WHERE id = :id AND state = 'queued'"
)


class AttemptRefunds:
    """Attempts that ended in this process, but whose notes the database still counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: Counter[int] = Counter()

    def add(self, operation_id: int) -> None:
        with self._lock:
            self._notes[operation_id] += 1

    def pay(self, engine: Engine) -> None:
        """Take these notes back. When the database is away, raises DBAPIError and keeps them for the next time."""
        with self._lock:
            notes, self._notes = self._notes, Counter()
        if not notes:
            return
        try:
            with engine.begin() as connection:
                for operation_id, count in sorted(notes.items()):
                    connection.execute(TAKE_BACK, {"id": operation_id, "notes": count})
        except BaseException:
            with self._lock:
                self._notes += notes
            raise


PENDING_ATTEMPT_REFUNDS = AttemptRefunds()
"""Those of this process."""
