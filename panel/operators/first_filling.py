"""The first filling of a panel: one word of an operator covers every order that was known when he gave it.

A new panel makes hundreds of records, in several runs, since each guest's identity is read first. The limit on creates
would ask about each run's set anew. An order that came later, changed its owner or was mapped later is not covered.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, text


def begin_filling(connection: Connection) -> None:
    """An operator has seen the first plan: the orders that are known now may have their records."""
    connection.execute(BEGIN)


def filling_since(connection: Connection) -> datetime | None:
    """When that word was given, while it holds: for 24 hours, as any approval."""
    since: datetime | None = connection.scalar(SINCE)
    return since


def first_word_given(connection: Connection) -> bool:
    """Whether an operator has seen a plan at all."""
    return connection.scalar(SEEN) is not None


def waiting_guests(connection: Connection) -> int:
    """How many listed guests were not read yet: their orders' records are made after that."""
    return connection.scalar(WAITING) or 0


BEGIN = text(
    "INSERT INTO source_states (source, filling_since) VALUES ('panel', clock_timestamp())"
    " ON CONFLICT (source) DO UPDATE SET filling_since = excluded.filling_since"
)
SINCE = text(
    "SELECT filling_since FROM source_states WHERE source = 'panel'"
    " AND filling_since > clock_timestamp() - interval '24 hours'"
)
SEEN = text("SELECT acknowledged_at FROM source_states WHERE source = 'panel'")
WAITING = text("SELECT count(*) FROM guests WHERE fingerprint_state = 'unread' AND unlisted_since IS NULL")
