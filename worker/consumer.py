"""Celery's consumer, which here outlives the loss of Redis with messages in hand."""

from __future__ import annotations

from celery.worker.consumer import Consumer as CeleryConsumer


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery is untyped
    """Named by ``worker_consumer`` in the settings."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Leave what is in hand to the visibility timeout and the journal, and connect again.

        kombu 5.7 would put it back through the connection that was just given up, and end the whole worker on the
        AttributeError that this is (``restore_unacked`` of a channel whose transport has no client any more).
        """
        if self.connection is not None:
            for channel in self.connection.transport.channels:
                channel.do_restore = False
        super().on_connection_error_after_connected(exc)
