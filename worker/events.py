"""Celery's events, which Flower shows, sent without making the worker wait.

Celery 5.7 sends its heartbeat with ``retry``, from the loop that takes messages. While Redis refused to publish, the
worker tried again for ever and took nothing. Here an event that cannot be sent is kept for the next connection.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher

PUT_BY = 1_000
"""How many events are kept while Redis takes none. Older ones are dropped: Flower only shows, the journal records."""


class Dispatcher(EventDispatcher):  # type: ignore[misc]  # Celery is untyped
    """Sends each event once, without retry."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - Celery's
        super().__init__(*args, **options)
        self._outbound_buffer: deque[Any] = deque(self._outbound_buffer, maxlen=PUT_BY)

    def send(self, type: str, *args: Any, retry: bool = False, **fields: Any) -> Any:  # noqa: A002, ANN401, ARG002 - Celery's
        """Send an event, or keep it for later."""
        return super().send(type, *args, retry=False, **fields)


class Events(CeleryEvents):  # type: ignore[misc]  # Celery is untyped
    """The application loads it by name."""

    dispatcher_cls = "worker.events:Dispatcher"
