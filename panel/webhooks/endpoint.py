"""Whether the main site is told anything, and when a worker must send. The relay asks."""

from __future__ import annotations

from sqlalchemy import Connection, text

TASK = "webhooks.send"
"""The task that sends what is due."""

RUNG_S = 45.0
"""A worker is asked again after this, if the one that was asked did not end. A pass takes less."""


def switch(connection: Connection, *, wanted: bool) -> None:
    """Note events from now on, or no more. What waits is kept, and is sent once they are wanted again."""
    connection.execute(SWITCH, {"wanted": wanted})


def ring(connection: Connection) -> bool:
    """Whether a worker must be asked to send now. Not while one was asked and has not ended."""
    return connection.scalar(RING, {"rung_s": RUNG_S}) is not None


def rest(connection: Connection) -> None:
    """The worker has ended its pass, or was perhaps never asked: the relay may ask again."""
    connection.execute(REST)


SWITCH = text("UPDATE webhook_endpoint SET wanted = :wanted WHERE wanted <> :wanted")
# Where a worker holds the row, the relay does not wait for it: it asks again in a second.
RING = text(
    "UPDATE webhook_endpoint SET rung_at = clock_timestamp() WHERE one ="
    " (SELECT one FROM webhook_endpoint WHERE wanted AND disabled_at IS NULL"
    " AND coalesce(not_before <= clock_timestamp(), true)"
    " AND coalesce(rung_at < clock_timestamp() - make_interval(secs => :rung_s), true)"
    " AND EXISTS (SELECT 1 FROM webhook_events WHERE state = 'waiting' AND due_at <= statement_timestamp())"
    " FOR UPDATE SKIP LOCKED) RETURNING 1"
)
REST = text("UPDATE webhook_endpoint SET rung_at = NULL WHERE rung_at IS NOT NULL")
