"""Celery's consumer, which here outlives the loss of Redis with messages in hand."""

from __future__ import annotations

from celery.worker.consumer import Consumer as CeleryConsumer


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery is untyped
    """Named by ``worker_consumer`` in the settings."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Leave what is in hand to the visibility timeout and the journal, and connect again.

        kombu 5.7 would put it back, and later acknowledge it, through the connection that was just given up, and end
        the whole worker on the AttributeError that this is (a channel without a connection, or one without a client).
        """
        if self.connection is not None:
            for channel in self.connection.transport.channels:
                channel.do_restore = False
                channel.basic_ack = channel.basic_reject = _leave
        super().on_connection_error_after_connected(exc)


def _leave(*_: object, **__: object) -> None:
    """An unacknowledged message comes once more, and finds its work done."""
