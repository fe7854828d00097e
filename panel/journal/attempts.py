"""Notes of attempts: made before an attempt, taken back when it ends. What remains are those that ended with their
process.

The database may go away between the two. Then the process, which lives, takes its note back as soon as it can: a call
is never dead because of what befell the database.
"""

from __future__ import annotations

import threading
from collections import Counter

from sqlalchemy import Engine, text

NOTE_ATTEMPT = text(
    "UPDATE operations SET attempts = attempts + 1 WHERE state = 'queued' AND id = ("
    " SELECT id FROM operations WHERE vps_id = :vps_id AND state = 'queued' AND seq <= :up_to ORDER BY seq LIMIT 1"
    ") RETURNING id, vps_id, seq, action, attempts, error"
)
TAKE_BACK = text("UPDATE operations SET attempts = greatest(attempts - :notes, 0) WHERE id = :id AND state = 'queued'")
WHY = text(
    "UPDATE operations SET error = :why, publish_at = clock_timestamp() + make_interval(secs => :wait)"
    " WHERE id = :id AND state = 'queued'"
)


class Owed:
    """Notes of attempts that came to an end in this process without the database's hearing of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: Counter[int] = Counter()

    def add(self, operation_id: int) -> None:
        with self._lock:
            self._notes[operation_id] += 1

    def pay(self, engine: Engine) -> None:
        """Take them back. Raises DBAPIError and owes them still when the database is away."""
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


PENDING_ATTEMPT_REFUNDS = Owed()
"""This process's."""
