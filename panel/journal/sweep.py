"""The worker's own look at what is unapplied: one more way, beside the relay's, that nothing stays behind."""

from __future__ import annotations

from sqlalchemy import Engine, text

STALE = text(
    "UPDATE operations SET publish_at = clock_timestamp() WHERE id IN ("
    " SELECT id FROM operations WHERE state = 'queued' AND publishes > 0"
    " AND accepted_at < clock_timestamp() - interval '60 seconds' AND publish_at > clock_timestamp()"
    " AND NOT EXISTS (SELECT 1 FROM operations m WHERE m.applied_at > statement_timestamp() - interval '30 seconds'"
    "                 AND m.kind = 'sync' AND m.state = 'applied')"
    " ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED)"
)
"""Only while nothing at all was applied lately: in a moving backlog the messages simply stand in line."""


def ring_unapplied(engine: Engine) -> int:
    """Make forgotten operations due now and wake the relay; how many."""
    with engine.begin() as connection:
        count = connection.execute(STALE).rowcount
        if count:
            connection.execute(text("SELECT pg_notify('panel_journal', '')"))
    return count
