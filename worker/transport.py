"""kombu's Redis transport, which here drops what is no message of ours before Celery sees it.

A dropped message is logged, without its content, and gone: it is taken out of Redis already, and what the panel means
to be done stands in the journal.
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

QUEUES = frozenset({"sync", "reconcile"})
TOLD_A_MINUTE = 10
"""A flood of rubbish must not fill the disk with lines about it."""


class _Dropping:
    """Tells of what was dropped: each of the first in a minute, then their number."""

    def __init__(self) -> None:
        self._since, self._told, self._silent = 0.0, 0, 0

    def __call__(self, queue: str, fault: str) -> None:
        if time.monotonic() - self._since > 60:
            if self._silent:
                log.warning("messages_dropped", more=self._silent)
            self._since, self._told, self._silent = time.monotonic(), 0, 0
        if self._told >= TOLD_A_MINUTE:
            self._silent += 1
            return
        self._told += 1
        log.warning("message_dropped", queue=queue, fault=fault)


dropped = _Dropping()
known_tasks: Collection[str] = ()


class QoS(kombu_redis.QoS):  # type: ignore[misc]  # kombu is untyped
    """What was taken and not acknowledged."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: ANN401 - kombu's
        """Put a message back into its queue. An entry that is not ours would keep all those behind it from it."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except (redis.RedisError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever kombu raises for what it cannot read
            dropped("unacked", type(error).__name__)
            self._remove_from_indices(tag).execute()


class Channel(kombu_redis.Channel):  # type: ignore[misc]  # kombu is untyped
    """Where messages are read from Redis."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:  # noqa: ANN401 - kombu's
        try:
            return super()._brpop_read(**options)
        except (redis.RedisError, OSError, Empty):
            raise
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            # What is no JSON text. It was taken out of Redis by the answer that could not be read.
            dropped("queue", type(error).__name__)
            return True

    def _handle_message(self, client: Any, r: Any) -> Any:  # noqa: ANN401 - kombu's
        payload = super()._handle_message(client, r)
        if str(bytes_to_str(payload["type"])).endswith("message") and payload["data"]:
            try:
                kombu_redis.loads(bytes_to_str(payload["data"]))
            except Exception as error:  # noqa: BLE001 - kombu would log it, with its content
                dropped("broadcast", type(error).__name__)
                payload["data"] = None
        return payload


class Transport(kombu_redis.Transport):  # type: ignore[misc]  # kombu is untyped
    """Where messages go from Redis to whoever consumes them."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:  # noqa: ANN401 - kombu's
        fault = task_fault(message, known_tasks) if queue in QUEUES else envelope_fault(message)
        if fault is None:
            super()._deliver(message, queue)
        else:
            dropped(queue if queue in QUEUES else "broadcast", fault)


def drop_what_is_not_ours(tasks: Collection[str]) -> None:
    """Let every connection to Redis that is made from now on be of this transport; ``tasks``: the names of ours."""
    global known_tasks  # noqa: PLW0603 - kombu makes transports by name, without a place for arguments
    known_tasks = tasks
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
