"""Beat: asks for what is due, one at a time: ``python -m worker.beat``.

Celery's own scheduler goes by the time of day: with a clock that went back it sends nothing until that has caught up,
after a restart, too. This one counts seconds, keeps nothing, and notes each asking in the database.

A second scheduler would send everything twice, so beat runs only while this process holds an advisory lock in
PostgreSQL, on a connection of its own (a direct one: a transaction pooler would give the lock away). A second
process stands by. A holder whose connection is lost ends, since another may hold the lock by then.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg
import structlog

from panel.duties import ASK
from panel.heartbeat import pulse
from panel.logging import configure_logging
from panel.own_session import NoSessionError, require_session
from panel.publish import CeleryPublisher, producer_app
from panel.redaction import secrets_of
from panel.sessions import own_connection
from panel.settings import SettingsError, get_settings
from worker.schedule import Entry, Schedule, entries_of

BEAT_LOCK = 0x62656174
"""The advisory lock's key; locks are per database, so every panel has its own."""

PATIENCE: dict[str, Any] = {
    "application_name": "panel-sync beat",
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 6_000,
    "options": "-c statement_timeout=5000",
}
"""A half-open connection is noticed well before the network stack would by itself."""

CHECK_S = 2.0
RETRY_S = 5.0
LONGEST_SLEEP_S = 5.0  # so that it is seen to live
_DATABASE_RETRY_MAX_S = 15.0

log = structlog.get_logger(__name__)


class BeatLock:
    """The right to be the scheduler: held as long as one connection lives."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, ending: threading.Event) -> None:
        """Return once the lock is held, or ``ending`` is set; waits for another holder's end and for an absent
        database."""
        pause, told = 1.0, False
        while not ending.is_set():
            pulse.beat()
            try:
                if self._try():
                    return
            except (psycopg.Error, NoSessionError) as error:
                self.release()
                why = str(error) if isinstance(error, NoSessionError) else None
                log.warning("beat_database_away", error=type(error).__name__, why=why, retry_in_s=pause)
                ending.wait(pause)
                pause = min(pause * 2, _DATABASE_RETRY_MAX_S)
                continue
            if not told:
                log.info("beat_standing_by")
                told = True
            pause = 1.0
            ending.wait(CHECK_S)

    def held(self) -> bool:
        """Whether the connection that holds the lock still answers."""
        return self._done("SELECT 1", {})

    def ask(self, entry: Entry) -> bool:
        """Note that it is due, over the connection that holds the lock; whether that still is so."""
        return self._done(ASK, {"name": entry.task, "every_s": entry.every_s})

    def _done(self, statement: LiteralString, values: dict[str, Any]) -> bool:
        connection = self._connection
        if connection is None:
            return False
        try:
            connection.execute(statement, values)
        except psycopg.Error:
            return False
        return True

    def release(self) -> None:
        """Close the connection, and with it give the lock back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try(self) -> bool:
        if self._connection is None:
            self._connection = own_connection(self._url, PATIENCE)
            require_session(self._connection)
        answer = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (BEAT_LOCK,)).fetchone()
        return answer is not None and bool(answer[0])


def _watch(lock: BeatLock, lost: threading.Event, ending: threading.Event) -> None:
    """Let this process end when the lock is lost."""
    while not ending.wait(CHECK_S):
        if not lock.held():
            log.error("beat_lock_lost")
            lost.set()
            ending.set()


class Beat:
    """Asks for what is due while the lock is held. ``send`` puts a task's message into Redis,
    and may raise anything."""

    def __init__(
        self, lock: BeatLock, schedule: Schedule, send: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        self._lock, self._schedule, self._send, self._clock = lock, schedule, send, clock

    def tick(self) -> float:
        """Send everything that is due; how many seconds to wait for the next."""
        for entry in self._schedule.due(self._clock()):
            # Before each: a process that was frozen and lost the lock meanwhile wakes up with everything overdue.
            if not self._lock.ask(entry):
                self._schedule.again(entry, self._clock() + RETRY_S)
                continue
            try:
                self._send(entry.task)
            except Exception as error:  # noqa: BLE001 - whatever Redis, kombu or the network says: later
                name = type(error).__name__
                log.warning("beat_not_sent", task=entry.task, error=name, why=str(error), retry_in_s=RETRY_S)
                self._schedule.again(entry, self._clock() + RETRY_S)
        return min(self._schedule.wait_s(self._clock()), LONGEST_SLEEP_S)


def main(arguments: list[str]) -> int:
    """Stand by for the lock, then schedule; 1 when the lock was lost, to be started again."""
    if arguments:
        sys.stderr.write("usage: python -m worker.beat\n")
        return 2
    try:
        settings = get_settings()
        settings.require("database_url", "redis_url")
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure_logging(settings.log_format, secrets=secrets_of(settings))
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    pulse.watch()
    lock = BeatLock(settings.session_url)
    lock.wait(ending)
    lost = threading.Event()
    threading.Thread(target=_watch, args=(lock, lost, ending), name="beat-lock", daemon=True).start()
    publisher = CeleryPublisher(producer_app(settings.redis_url))
    beat = Beat(lock, Schedule(entries_of(settings), time.monotonic()), publisher.send, time.monotonic)
    log.info("beat_started")
    while not ending.is_set():
        wait_s = beat.tick()
        pulse.beat()
        ending.wait(wait_s)
    lock.release()
    return 1 if lost.is_set() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
