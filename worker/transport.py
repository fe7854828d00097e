"""kombu's Redis transport, changed to drop messages that are not ours before Celery sees them.

A dropped message is logged without its content. It is gone, because it was already taken out of Redis. That loses no
work: everything that the panel must do is in the journal.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import redis
import structlog
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import Empty
from kombu.utils.encoding import bytes_to_str

from worker.messages import envelope_fault, task_fault

log = structlog.get_logger(__name__)

QUEUES = frozenset({"sync", "reconcile", "power", "statistics", "webhooks"})
LOGGED_A_MINUTE = 10
"""How many dropped messages get a log line each, so that a flood of bad messages does not fill the disk."""


class _DropLog:
    """Logs dropped messages: the first LOGGED_A_MINUTE one by one, the others of that minute by their number."""

    def __init__(self) -> None:
        self._since, self._logged, self._silent = 0.0, 0, 0

    def __call__(self, queue: str, fault: str) -> None:
        if time.monotonic() - self._since > 60:
            if self._silent:
                log.warning("messages_dropped", more=self._silent)
            self._since, self._logged, self._silent = time.monotonic(), 0, 0
        if self._logged >= LOGGED_A_MINUTE:
            self._silent += 1
            return
        self._logged += 1
        log.warning("message_dropped", queue=queue, fault=fault)


log_dropped = _DropLog()
known_tasks: Collection[str] = ()


class QoS(kombu_redis.QoS):  # type: ignore[misc]  # kombu is untyped
    """The messages that were taken and not acknowledged."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: ANN401 - kombu's
        """Put a message back into its queue. An unreadable entry would otherwise block all those behind it."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except (redis.RedisError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - kombu raises many kinds for an unreadable entry
            log_dropped("unacked", type(error).__name__)
            self._remove_from_indices(tag).execute()


class Channel(kombu_redis.Channel):  # type: ignore[misc]  # kombu is untyped
    """Reads messages from Redis."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:  # noqa: ANN401 - kombu's
        try:
            return super()._brpop_read(**options)
        except (redis.RedisError, OSError, Empty):
            raise
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            # The message is not JSON. Redis removed it from the queue when it answered, so it is gone.
            log_dropped("queue", type(error).__name__)
            return True

    def _handle_message(self, client: Any, r: Any) -> Any:  # noqa: ANN401 - kombu's
        payload = super()._handle_message(client, r)
        if str(bytes_to_str(payload["type"])).endswith("message") and payload["data"]:
            try:
                kombu_redis.loads(bytes_to_str(payload["data"]))
            except Exception as error:  # noqa: BLE001 - kombu would log it with its content
                log_dropped("broadcast", type(error).__name__)
                payload["data"] = None
        return payload


class Transport(kombu_redis.Transport):  # type: ignore[misc]  # kombu is untyped
    """Passes messages from Redis to their consumers."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:  # noqa: ANN401 - kombu's
        fault = task_fault(message, known_tasks) if queue in QUEUES else envelope_fault(message)
        if fault is None:
            super()._deliver(message, queue)
        else:
            log_dropped(queue if queue in QUEUES else "broadcast", fault)


def drop_foreign_messages(tasks: Collection[str]) -> None:
    """Use this transport for every connection to Redis made from now on. ``tasks``: the names of our tasks."""
    global known_tasks  # noqa: PLW0603 - kombu makes transports by name, without a place for arguments
    known_tasks = tasks
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
