"""Celery's beat, one at a time: ``python -m worker.beat SCHEDULE_FILE``.

A second scheduler would send everything twice, so beat runs only while this process holds an advisory lock in
PostgreSQL, on a connection of its own (a direct one: a transaction pooler would give the lock away). A second
process stands by. A holder whose connection is lost ends, since another may hold the lock by then.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import psycopg
import structlog
from celery import signals
from celery.beat import PersistentScheduler

from panel.logging import configure_logging
from panel.redaction import secrets_of
from panel.sessions import own_connection
from panel.settings import SettingsError, get_settings
from worker.heartbeat import pulse

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

ASK_FOR_USERS = "INSERT INTO nudges (task, subject) VALUES ('users.import', '') ON CONFLICT DO NOTHING"
"""The relay publishes it."""

CHECK_S = 2.0
_DATABASE_RETRY_MAX_S = 15.0

log = structlog.get_logger(__name__)


class BeatLock:
    """The right to be the scheduler: held as long as one connection lives."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self) -> None:
        """Return once the lock is held; waits for another holder's end and for an absent database."""
        pause, told = 1.0, False
        while True:
            pulse.beat()
            try:
                if self._try():
                    return
            except psycopg.Error as error:
                self.release()
                log.warning("beat_database_away", error=type(error).__name__, retry_in_s=pause)
                time.sleep(pause)
                pause = min(pause * 2, _DATABASE_RETRY_MAX_S)
                continue
            if not told:
                log.info("beat_standing_by")
                told = True
            pause = 1.0
            time.sleep(CHECK_S)

    def held(self) -> bool:
        """Whether the connection that holds the lock still answers."""
        if self._connection is None:
            return False
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def ask_for_users(self) -> None:
        """Ask for an import of the users now: the schedule would bring it only after a whole interval."""
        if self._connection is None:
            return
        try:
            self._connection.execute(ASK_FOR_USERS)
        except psycopg.Error as error:  # the lock's watch sees a lost connection; the first run imports them, too
            log.warning("beat_users_not_asked_for", error=type(error).__name__)

    def release(self) -> None:
        """Close the connection, and with it give the lock back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try(self) -> bool:
        if self._connection is None:
            self._connection = own_connection(self._url, PATIENCE)
        answer = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (BEAT_LOCK,)).fetchone()
        return answer is not None and bool(answer[0])


def _watch(lock: BeatLock, lost: threading.Event) -> None:
    """End this process by its own SIGTERM (which saves the schedule) when the lock is lost."""
    while lock.held():
        time.sleep(CHECK_S)
    log.error("beat_lock_lost")
    lost.set()
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """Stand by for the lock, then schedule; 1 when the lock was lost, to be started again."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m worker.beat SCHEDULE_FILE\n")
        return 2
    try:
        settings = get_settings()
        settings.require("database_url", "redis_url")
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure_logging(settings.log_format, secrets=secrets_of(settings))
    pulse.watch()
    lock = BeatLock(settings.database_url)
    lock.wait()
    if settings.main_site_url:
        lock.ask_for_users()
    lost = threading.Event()
    threading.Thread(target=_watch, args=(lock, lost), name="beat-lock", daemon=True).start()

    # Only now: the application reads its settings and tasks when imported, which a stand-by does not need.
    from worker.app import app  # noqa: PLC0415

    # On SIGTERM Celery saves the schedule and lets this return.
    app.Beat(
        schedule=arguments[0],
        scheduler_cls=locked_scheduler(lock),
        max_interval=5,  # so that it is seen to live
        loglevel="WARNING",
        quiet=True,
    ).run()
    return 1 if lost.is_set() else 0


def locked_scheduler(lock: BeatLock) -> type[PersistentScheduler]:
    """Celery's scheduler, looking at the lock before everything it sends.

    A process that was frozen and lost the lock meanwhile wakes up with everything overdue: it would send it all
    beside its successor before the watch comes to see.
    """

    class LockedScheduler(PersistentScheduler):  # type: ignore[misc]  # Celery has no types
        def tick(self, *arguments: Any, **named: Any) -> float:  # noqa: ANN401 - Celery's own
            pulse.beat()
            return float(super().tick(*arguments, **named))

        def apply_entry(self, entry: Any, producer: Any = None) -> None:  # noqa: ANN401 - Celery's own
            if lock.held():
                super().apply_entry(entry, producer=producer)

    return LockedScheduler


@signals.beat_init.connect
def _started(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    log.info("beat_started")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
