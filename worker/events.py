"""Celery's events, as Flower shows them, sent without ever keeping the worker waiting.

Celery 5.7 sends its own heartbeat with ``retry``, from the loop that takes messages: while Redis refuses to publish,
the worker tries again for ever and takes nothing. An event that cannot be sent is put by, and sent with the next
connection.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher

PUT_BY = 1_000
"""Events kept while Redis takes none; older ones are forgotten: they are a view, the journal is the record."""


class Dispatcher(EventDispatcher):  # type: ignore[misc]  # Celery is untyped
    """Sends once."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - Celery's
        super().__init__(*args, **options)
        self._outbound_buffer: deque[Any] = deque(self._outbound_buffer, maxlen=PUT_BY)

    def send(self, type: str, *args: Any, retry: bool = False, **fields: Any) -> Any:  # noqa: A002, ANN401, ARG002 - Celery's
        """Send an event, or put it by."""
        return super().send(type, *args, retry=False, **fields)


class Events(CeleryEvents):  # type: ignore[misc]  # Celery is untyped
    """Named by the application."""

    dispatcher_cls = "worker.events:Dispatcher"
