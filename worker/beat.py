"""Beat's scheduler: it asks workers for the tasks that are due. Used by ``celery --app=worker.app beat`` and by
``panel-sync beat``.

Celery's own scheduler follows the time of day. When a clock went back, it sent nothing until the clock had caught up,
even after a restart. This one counts seconds, keeps no file, and notes each request in the database.

Two schedulers would send everything twice. So a scheduler asks only while it holds an advisory lock in PostgreSQL, on
a direct connection of its own (a transaction pooler would give the lock to another client). A second scheduler stands
by. A scheduler that loses its connection must take the lock again, because another may hold it by then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg
import structlog
from celery.beat import Scheduler as CeleryScheduler

from panel.heartbeat import pulse
from panel.journal.publish import CeleryPublisher
from panel.monitoring.instruments import beat_sent
from panel.runs.schedule_duties import ASK
from panel.sessions import NoSessionError, own_connection, refusal, require_session
from panel.settings import get_settings
from worker.schedule import Entry, Schedule, entries_of

BEAT_LOCK = 0x62656174
"""The advisory lock's key. Locks are per database, so every panel has its own."""

PATIENCE: dict[str, Any] = {
    "application_name": "panel-sync beat",
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 6_000,
    "options": "-c statement_timeout=5000",
}
"""Timeouts of beat's connection. They find a half-open connection long before the network stack would."""

CHECK_S = 2.0
"""How often holders and standbys look at the lock, in seconds."""

RETRY_S = 5.0

log = structlog.get_logger(__name__)


class BeatLock:
    """The right to be the scheduler. It lasts as long as one connection lives."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: psycopg.Connection[Any] | None = None
        self._held = False
        self._last_event: str | None = None

    def hold(self) -> bool:
        """Keep the lock, or try to take it. Returns whether it is held now.

        This waits neither for another holder nor for a database that is away. Each change is logged once.
        """
        if self._held and self._execute("SELECT 1", {}):
            return True
        if self._held:
            self._log_change("beat_lock_lost", logging.ERROR)
            self.release()
        try:
            self._held = self._try_to_take()
        except (psycopg.Error, NoSessionError) as error:
            self.release()
            why = str(error) if isinstance(error, NoSessionError) else refusal(error, self._url)
            self._log_change("beat_database_away", logging.WARNING, error=type(error).__name__, why=why)
            return False
        self._log_change("beat_started" if self._held else "beat_standing_by")
        return self._held

    def ask(self, entry: Entry) -> bool:
        """Store that the task is due, over the connection that holds the lock. Returns False if that failed: then the
        connection is probably lost, and the lock with it."""
        return self._execute(ASK, {"name": entry.task, "every_s": entry.every_s})

    def release(self) -> None:
        """Close the connection, which gives the lock back."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._held = None, False

    def _log_change(self, event: str, level: int = logging.INFO, **values: Any) -> None:  # noqa: ANN401 - structlog's
        if event != self._last_event:
            log.log(level, event, **values)
        self._last_event = event

    def _execute(self, statement: LiteralString, values: dict[str, Any]) -> bool:
        connection = self._connection
        if connection is None:
            return False
        try:
            connection.execute(statement, values)
        except psycopg.Error:
            return False
        return True

    def _try_to_take(self) -> bool:
        if self._connection is None:
            self._connection = own_connection(self._url, PATIENCE)
            require_session(self._connection)
        answer = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (BEAT_LOCK,)).fetchone()
        return answer is not None and bool(answer[0])


class Scheduler(CeleryScheduler):  # type: ignore[misc]  # Celery is untyped
    """The scheduler that Celery loads by the setting ``beat_scheduler``."""

    lock: BeatLock
    send: Callable[[str], None]
    """Puts a task's message into Redis. It may raise any exception."""

    clock: Callable[[], float] = staticmethod(time.monotonic)
    due: Schedule | None = None

    def setup_schedule(self) -> None:
        """Celery calls this once, before it schedules. It does not call this if it only shows the schedule."""
        self.lock = BeatLock(get_settings().session_url)
        self.send = CeleryPublisher(self.app).send
        pulse.watch()

    def tick(self) -> float:
        """Send everything that is due if this process holds the lock. Returns the seconds until the next call."""
        pulse.beat()
        if not self.lock.hold():
            self.due = None
            return CHECK_S
        if self.due is None:
            self.due = Schedule(entries_of(self.app.conf.beat_schedule), self.clock())
        for entry in self.due.due(self.clock()):
            # Before each entry: a process that was frozen wakes up with everything overdue, and may have lost the lock.
            if not self.lock.ask(entry):
                self.due.retry_at(entry, self.clock() + RETRY_S)
                continue
            try:
                self.send(entry.task)
            except Exception as error:  # noqa: BLE001 - Redis, kombu or the network: try later
                name = type(error).__name__
                log.warning("beat_not_sent", task=entry.task, error=name, why=str(error), retry_in_s=RETRY_S)
                self.due.retry_at(entry, self.clock() + RETRY_S)
            else:
                beat_sent(entry.task)
        return min(self.due.wait_s(self.clock()), CHECK_S)

    def close(self) -> None:
        """Celery calls this at the end, perhaps twice."""
        self.lock.release()
        super().close()
