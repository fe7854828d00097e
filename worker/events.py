"""Sends Celery's events, which Flower shows, without making the worker wait.

Celery 5.7 sends its heartbeat with ``retry``, from the loop that takes messages. While Redis refused to publish, the
worker tried again for ever and took no messages. Here an event that cannot be sent is kept for the next connection.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher

KEPT_EVENTS = 1_000
"""How many events are kept while Redis takes none. Older ones are dropped, because only Flower shows them: what was
done is in the journal."""


class Dispatcher(EventDispatcher):  # type: ignore[misc]  # Celery is untyped
    """Sends each event once, without retry."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - Celery's
        super().__init__(*args, **options)
        self._outbound_buffer: deque[Any] = deque(self._outbound_buffer, maxlen=KEPT_EVENTS)

    def send(self, type: str, *args: Any, retry: bool = False, **fields: Any) -> Any:  # noqa: A002, ANN401, ARG002 - Celery's
        """Send an event, or keep it for later."""
        return super().send(type, *args, retry=False, **fields)


class Events(CeleryEvents):  # type: ignore[misc]  # Celery is untyped
    """The events that the application loads by name."""

    dispatcher_cls = "worker.events:Dispatcher"
