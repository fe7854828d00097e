"""Celery's consumer, changed to survive a lost Redis, Redis errors, and messages that are not ours.

It beats only while it takes messages, so that a worker that is alive but takes none is restarted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis
import structlog
from celery import bootsteps
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

from panel.broker import refusal_code
from panel.heartbeat import INTERVAL_S, OLD_S, MessageIntake, pulse

log = structlog.get_logger(__name__)

REFUSED_PAUSE_S = 3

SPARE_S = 60.0
"""For how many seconds beyond the time limit of its current work a worker may take no message."""


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery is untyped
    """The consumer that Celery loads by the setting ``worker_consumer``."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - Celery's
        super().__init__(*args, **options)
        self.intake = MessageIntake(pulse.clock())
        # Celery survives only the errors on this list, and kombu's list lacks some of redis-py's.
        self.connection_errors: tuple[type[Exception], ...] = (*self.conninfo.connection_errors, redis.RedisError)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Connect again. The messages in hand are left alone: the visibility timeout and the journal bring their work
        back.

        kombu 5.7 would put them back, and later acknowledge them, through the lost connection. That raised an
        AttributeError (a channel without a connection, or one without a client), which ended the whole worker.
        """
        if self.connection is not None:
            for channel in self.connection.transport.channels:
                channel.do_restore = False
                channel.basic_ack = channel.basic_reject = _do_nothing
        super().on_connection_error_after_connected(exc)
        if (code := refusal_code(exc)) is not None:
            log.warning("redis_refuses", code=code, again_in_s=REFUSED_PAUSE_S)
            # Without a pause this would loop: a new connection succeeds at once, and Redis refuses its first command.
            for _ in range(REFUSED_PAUSE_S):
                pulse.beat()
                state.maybe_shutdown()
                time.sleep(1)

    def ensure_connected(self, conn: Any) -> Any:  # noqa: ANN401 - kombu's
        """Connect, however long that takes. Beat with each try: a restarted worker would wait for Redis, too."""
        connect = conn.ensure_connection

        def waiting(errback: Any, max_retries: Any, callback: Callable[[], None], **more: Any) -> Any:  # noqa: ANN401
            def on_each_try() -> None:
                pulse.beat()
                callback()

            return connect(errback, max_retries, callback=on_each_try, **more)

        conn.ensure_connection = waiting
        return super().ensure_connected(conn)

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:  # noqa: ANN401 - Celery's
        """The handler of each message. :mod:`worker.transport` lets only our messages through. If Celery fails on one
        of them all the same, the message is dropped and the worker goes on."""
        handle = super().create_task_handler(*args, **options)

        def handled(message: Any) -> None:  # noqa: ANN401 - kombu's
            self.intake.took(pulse.clock())
            try:
                handle(message)
            except (redis.RedisError, OSError):
                raise
            except Exception as error:  # noqa: BLE001 - the message is at fault, not the worker
                self._drop(message, type(error).__name__)

        return handled

    # Celery's own versions of these four would log a message's content.

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ANN401, ARG002 - Celery's
        """Drop a message that is not Celery's."""
        self._drop(message, "unknown message")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002 - Celery's
        """Drop a message for a task that this worker does not know."""
        self._drop(message, "unknown task")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002 - Celery's
        """Drop a message with contradictory headers."""
        self._drop(message, type(exc).__name__)

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401 - Celery's
        """Drop a message with an unreadable body."""
        self._drop(message, type(exc).__name__)

    def _drop(self, message: Any, fault: str) -> None:  # noqa: ANN401 - kombu's
        log.warning("message_refused", fault=fault)
        if not message.acknowledged:
            message.reject_log_error(log, self.connection_errors)


class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery is untyped
    """Beats from the loop that takes messages, as long as the worker takes them."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:  # noqa: ANN401 - Celery's
        super().__init__(parent, **options)
        self._entry: Any = None

    def start(self, parent: Any) -> None:  # noqa: ANN401 - Celery's
        """Beat now, and then every few seconds."""
        parent.intake.took(pulse.clock())
        pulse.beat()

        def beat_if_healthy() -> None:
            if parent.intake.is_healthy(pulse.clock(), waits=_waits(parent), limit_s=_limit_s()):
                pulse.beat()

        self._entry = parent.timer.call_repeatedly(INTERVAL_S, beat_if_healthy)

    def stop(self, parent: Any) -> None:  # noqa: ANN401 - Celery's
        """Stop this connection's beat. The next connection starts its own."""
        if self._entry is not None:
            parent.timer.cancel(self._entry)
            self._entry = None

    shutdown = stop


def _waits(consumer: Any) -> bool:  # noqa: ANN401 - Celery's
    """Whether the worker has asked Redis for the next message and has no answer yet."""
    return bool(consumer.task_consumer and consumer.task_consumer.channel._in_poll)  # noqa: SLF001 - no public way


def _limit_s() -> float:
    """For how many seconds the worker may be busy with the messages in hand before it must ask for more."""
    limits = [request.task.time_limit or request.app.conf.task_time_limit for request in state.reserved_requests]
    return max(limits) + SPARE_S if limits else OLD_S


def _do_nothing(*_: object, **__: object) -> None:
    """In place of an acknowledgement: an unacknowledged message comes again and finds its work done."""
