"""Publishes journaled operations that are not applied yet, power actions whose next step is due, and that events for
the main site are due. It takes them from PostgreSQL, so while Redis is away, messages are only delayed.

A message is a doorbell: it names an operation, and the worker takes the work from PostgreSQL. So a lost, doubled or
reordered message loses no work. An operation is published at once, again after 30 s if it is still not applied,
then less and less often. Several relays may run side by side (``SKIP LOCKED``).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psycopg
import structlog
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from panel.broker import refusal_code
from panel.journal.accept_batch import JOURNAL_CHANNEL
from panel.journal.publish import APPLY, SYNC, Doorbell, Outbox, Publisher, call_bells
from panel.power import due
from panel.runs import schedule_duties
from panel.runs.run_requests import request_task
from panel.sessions import NoSessionError, refusal, require_session, sync_engine
from panel.webhooks import endpoint

log = structlog.get_logger(__name__)

T = TypeVar("T")

BATCH = 500
SET = 200  # calls in a message; their transaction takes some hundredths of a second, and so long it holds their locks
GATHER_S = 0.02  # after a publication; what is accepted meanwhile shares a message
# Nothing is claimed while the broker holds this many messages: what waits in PostgreSQL gathers into larger sets.
AHEAD_LIMIT = 50
AHEAD_S = 0.1  # until it looks again
POLL_S = 1.0  # a NOTIFY may be lost with its connection, so it polls besides
# Nothing is sent again while the broker holds this many messages: what seems lost waits among them. Else slow workers
# would get several messages for each call, which makes them slower still.
REPUBLISH_LIMIT = 1000
REPUBLISH_WINDOW_S = 30.0
# Redis' queue is first in, first out. So if a call that was accepted this much later is applied already, the message of
# the earlier call was lost.
OVERTAKEN_S = 10.0
AGAIN_CHECK_S = 5.0  # how often it looks for calls to publish again
REPORT_S = 10.0  # how often it stores in the database that publishing works
LANE_CHECK_S = 15.0
ACTIONS, EVENTS = "power actions", "events"
NO_SUCH_TABLE = "42P01"
STALLED_S = 30.0  # without a turn: waiting for a database or a broker that is away takes less
OVERTAKEN_TIMES = 5  # then only the long waits count: a call that kills its worker must not return every ten seconds


class Relay:
    """A thread that claims due operations and publishes them. ``start`` and ``stop`` from any thread. ``webhook``:
    whether the main site is to be told of changes; None leaves it as it is."""

    def __init__(
        self,
        database_url: str,
        publisher: Publisher,
        *,
        webhook: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = database_url
        self._engine: Engine = sync_engine(database_url, "panel-sync relay")
        self._outbox = Outbox(publisher)
        self._webhook, self._switched = webhook, False
        self._clock = clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._oldest: tuple[int | None, float] = (None, clock())
        self._ahead = 0  # messages of calls that were sent since the broker was asked, and those that it held then
        self._again_checked_at = clock() - AGAIN_CHECK_S
        self._turned_at = clock()
        self._failing: str | None = None
        self._parts_failing: dict[str, str] = {}  # what could not be done besides calls, and the error's code
        self._reported: str | None = None
        self._polls = self._polling_logged = False
        self._reported_at: float | None = None
        self._lanes_checked_at = clock()

    def start(self) -> None:
        """Start relaying in the background."""
        self._thread = threading.Thread(target=self.run, name="relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the current batch and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self._engine.dispose()

    @property
    def health(self) -> str:
        """``ok``, ``stopped``, ``stalled``, ``database away``, ``publishing fails:`` with a code (``publishing to ...``
        if only for these queues), ``failing for`` power actions or events with a code, or ``failing:`` with an error's
        class."""
        if self._thread is None or not self._thread.is_alive():
            return "stopped"
        if self._clock() - self._turned_at > STALLED_S:
            return "stalled"
        parts = f"failing for {self._parts_fault}" if self._parts_failing else None
        return self._failing or self._outbox.health or parts or self._ok

    @property
    def _parts_fault(self) -> str:
        return ", ".join(f"{part}: {code}" for part, code in sorted(self._parts_failing.items()))

    @property
    def _ok(self) -> str:
        return "ok, by polling: no session of its own (set DATABASE_SESSION_URL)" if self._polls else "ok"

    def run(self) -> None:
        """Relay in this thread until ``stop`` is called from another one or a signal handler."""
        pause = 0.1
        while not self._stop.is_set():
            self._turned_at = self._clock()
            try:
                with self._listening() as connection:
                    while not self._stop.is_set():
                        published = self.relay_once()
                        self._check_lanes()
                        pause, self._failing, self._turned_at = 0.1, None, self._clock()
                        if published or self._ahead >= AHEAD_LIMIT:
                            self._stop.wait(GATHER_S if published else AHEAD_S)
                        elif connection is None:
                            self._stop.wait(POLL_S)
                        else:
                            for _ in connection.notifies(timeout=POLL_S, stop_after=1):
                                pass
            except (DBAPIError, psycopg.Error, PoolTimeoutError, OSError) as error:
                log.warning("relay_database_away", error=type(error).__name__, why=refusal(error, self._url))
                self._failing = "database away"
            except Exception as error:  # the thread must not end: the API would accept calls that no worker hears of
                log.exception("relay_failed")
                self._failing = f"failing: {type(error).__name__}"
            else:
                continue
            self._stop.wait(pause)
            pause = min(pause * 2, 5.0)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[psycopg.Connection[Any] | None]:
        """A connection that hears of new calls; None if a pooler gives it no session of its own, so that it polls."""
        raw = self._engine.raw_connection()
        try:
            connection = raw.driver_connection
            if not isinstance(connection, psycopg.Connection):
                raise TypeError("the relay needs psycopg 3")
            raw.detach()  # first: if listening fails (on a standby), the pool must not use this connection again
            connection.autocommit = True
            self._polls = False
            try:
                require_session(connection)
            except NoSessionError as error:
                if not self._polling_logged:
                    log.warning("relay_polls", why=str(error))
                self._polls = self._polling_logged = True
                yield None
                return
            connection.execute(f"LISTEN {JOURNAL_CHANNEL}")
            yield connection
        finally:
            raw.close()

    def relay_once(self) -> int:
        """Publish one batch of what is due; returns how many calls and other tasks."""
        bells = self._claim(self._room_for_repeats())
        if bells:
            self._ahead += sum(bell.task == APPLY for bell in bells)
            failed = self._outbox.publish(bells)
            self._report_publishing()
            if failed:
                # The claim has put off the next publication by 30 s or more. Make it one second, but do not spin.
                self._make_due_again(failed)
                self._stop.wait(0.5)
        return sum(len(bell.operations) or 1 for bell in bells)

    def _report_publishing(self) -> None:
        """Store how publishing goes, when that changed and every REPORT_S. Other processes read it there."""
        problem = self._outbox.fault or self._parts_fault or None
        changed, self._reported = problem != self._reported, problem
        now = self._clock()
        if changed or self._reported_at is None or now - self._reported_at >= REPORT_S:
            self._reported_at = now
            with self._engine.begin() as connection:
                if not self._outbox.stops_calls:
                    schedule_duties.note_done(connection, schedule_duties.RELAY)
                if problem is not None:
                    schedule_duties.note_failed(connection, schedule_duties.RELAY, problem)

    def _check_lanes(self) -> None:
        """Open an alarm for lanes that are late, and end power actions that no worker takes. The relay does it because
        it needs neither Redis, beat nor workers."""
        if (now := self._clock()) - self._lanes_checked_at >= LANE_CHECK_S:
            self._lanes_checked_at = now
            with self._engine.begin() as connection:
                if late := schedule_duties.raise_late_alarms(connection):
                    log.warning("lanes_late", lanes=late)
            if ended := self._besides(ACTIONS, due.end_given_up):
                log.warning("power_actions_given_up", actions=ended)

    def _is_far_ahead(self) -> bool:
        """Whether the broker holds so many messages of calls that workers have enough to do for a while."""
        if self._ahead >= AHEAD_LIMIT:
            try:
                self._ahead = self._outbox.waiting(SYNC)
            except Exception:  # noqa: BLE001 - any fault of any broker: the next publication tells of it
                self._ahead = 0
        return self._ahead >= AHEAD_LIMIT

    def _room_for_repeats(self) -> int | None:
        """How many calls may be published again now. The broker is asked every AGAIN_CHECK_S; None in between."""
        now = self._clock()
        if now - self._again_checked_at < AGAIN_CHECK_S:
            return None
        self._again_checked_at = now
        if self._outbox.ask_refused():
            self._report_publishing()
        try:
            return max(0, REPUBLISH_LIMIT - self._outbox.waiting(SYNC))
        except Exception as error:  # noqa: BLE001 - any fault of any broker: nothing can be published now
            log.warning("broker_not_asked", error=type(error).__name__, code=refusal_code(error))
            return 0

    def _claim(self, room: int | None) -> list[Doorbell]:
        """Mark what is due as published and take the task requests, in short transactions. ``room``: how many
        operations may be published again; None: it is not time to look for them.

        They are marked before they are published. If the relay is killed in between, calls, actions and events are
        published again later; a task request is lost with it. So calls and requests are taken last.
        """
        actions = self._besides(ACTIONS, due.claim_due) or []
        events_are_due = self._events_are_due()
        far_ahead = self._is_far_ahead()
        with self._engine.begin() as connection:
            first = [] if far_ahead else list(connection.execute(CLAIM_FIRST, {"limit": BATCH}))
            again: list[Row[Any]] = []
            if room is not None and self._is_any_queued(connection):
                again = self._claim_again(connection, min(room, BATCH - len(first)))
            requests = connection.execute(TAKE_REQUESTS).all()
        bells = call_bells([*first, *again], SET)
        bells += [
            Doorbell(due.TASK, a.id, f"power={a.id}", () if a.traceparent is None else (a.traceparent,))
            for a in actions
        ]
        bells += [Doorbell(endpoint.TASK, "", "")] if events_are_due else []
        return bells + [Doorbell(r.task, r.subject, r.subject) for r in requests]

    def _besides(self, part: str, work: Callable[[Connection], T]) -> T | None:
        """Do this in a transaction of its own. None if that fails: calls must not wait for what is no call. ``health``
        tells of it, unless its table is not made yet."""
        try:
            with self._engine.begin() as connection:
                done = work(connection)
        except DBAPIError as error:
            code = getattr(error.orig, "sqlstate", None) or type(error).__name__
            if code != NO_SUCH_TABLE and self._parts_failing.get(part) != code:
                self._parts_failing[part] = code
                log.warning("relay_part_failed", part=part, code=code)
            return None
        self._parts_failing.pop(part, None)
        return done

    def _events_are_due(self) -> bool:
        """Whether a worker must send the main site events. At first, note whether it is to be told anything."""
        if self._webhook is False and self._switched:
            return False

        def ring(connection: Connection) -> bool:
            if self._webhook is not None and not self._switched:
                endpoint.switch(connection, wanted=self._webhook)
            return endpoint.ring(connection)

        are_due = self._besides(EVENTS, ring)
        self._switched = are_due is not None
        return bool(are_due)

    def _claim_again(self, connection: Connection, room: int) -> list[Row[Any]]:
        """Claim operations whose messages seem lost: what was overtaken and, if nothing moves, what is due."""
        if room <= 0:
            return []
        values = {"limit": room, "behind": OVERTAKEN_S, "times": OVERTAKEN_TIMES}
        again = list(connection.execute(CLAIM_OVERTAKEN, values))
        if room > len(again) and self._stands_still():
            again += connection.execute(CLAIM_AGAIN, {"limit": room - len(again)})
        return again

    def _is_any_queued(self, connection: Connection) -> bool:
        """Whether any operation is queued. Remembers the oldest, and since when it is the oldest."""
        oldest = connection.scalar(OLDEST)
        if oldest != self._oldest[0]:
            self._oldest = (oldest, self._clock())
        return oldest is not None

    def _stands_still(self) -> bool:
        """Whether the oldest queued operation has been the same for long. While it keeps changing, workers make
        progress, and the messages simply wait in Redis."""
        oldest, since = self._oldest
        return oldest is not None and self._clock() - since >= REPUBLISH_WINDOW_S

    def _make_due_again(self, bells: Sequence[Doorbell]) -> None:
        ids = [id_ for b in bells for id_ in b.operations]
        task_requests = [b for b in bells if b.task not in (APPLY, due.TASK, endpoint.TASK)]
        with self._engine.begin() as connection:
            connection.execute(DUE_AGAIN, {"ids": ids})
            due.make_due_again(connection, [int(str(b.argument)) for b in bells if b.task == due.TASK])
            for bell in task_requests:
                request_task(connection, bell.task, str(bell.argument))
        if any(b.task == endpoint.TASK for b in bells):
            self._besides(EVENTS, endpoint.rest)


_CLAIM = """
UPDATE operations SET publishes = publishes + 1,
  publish_at = clock_timestamp() + make_interval(secs => least(30 * power(2, least(publishes, 10)), 600))
WHERE id IN (
  SELECT id FROM operations
  WHERE state = 'queued' AND {which}
  ORDER BY publish_at, id LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING id, vps_id, action, traceparent, publishes > 1 OR error IS NOT NULL AS alone
"""
# By the statement's time, which an index can be searched by: what was published and waits is then never looked at.
_DUE = "publish_at <= statement_timestamp() AND "
CLAIM_FIRST = text(_CLAIM.format(which=_DUE + "(publishes = 0 OR error IS NOT NULL)"))
CLAIM_AGAIN = text(_CLAIM.format(which=_DUE + "publishes > 0 AND error IS NULL"))
# The latest time of acceptance among the 100 calls that were applied last. They are searched by the time of
# application: by id, the search would first pass all calls that still wait.
_NEWEST = (
    "(SELECT max(accepted_at) FROM (SELECT accepted_at FROM operations WHERE kind = 'sync' AND state = 'applied'"
    " ORDER BY applied_at DESC LIMIT 100) AS late)"
)
_PUBLISHED = "publish_at - make_interval(secs => 30 * power(2, publishes - 1))"
CLAIM_OVERTAKEN = text(
    _CLAIM.format(
        which=f"error IS NULL AND publishes BETWEEN 1 AND :times AND {_PUBLISHED} < clock_timestamp()"
        f" - make_interval(secs => :behind) AND accepted_at < {_NEWEST} - make_interval(secs => :behind)"
    )
)
TAKE_REQUESTS = text(
    "DELETE FROM task_requests WHERE (task, subject) IN "
    "(SELECT task, subject FROM task_requests ORDER BY asked_at LIMIT 100 FOR UPDATE SKIP LOCKED)"
    " RETURNING task, subject"
)
OLDEST = text("SELECT min(id) FROM operations WHERE state = 'queued'")
DUE_AGAIN = text(
    "UPDATE operations SET publishes = publishes - 1, publish_at = clock_timestamp() + interval '1 second' "
    "WHERE id = ANY(:ids) AND state = 'queued' AND publishes > 0"
)
