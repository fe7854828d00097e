"""The first filling of a panel: one word of an operator covers every order that the panel knows at that moment.

A new panel makes hundreds of records. That takes several runs, because each guest's identity is read first. The limit
on creates would ask the operator again about each run's set. The word does not cover an order that came later or
changed its owner since, nor one whose owner was mapped since.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, text


def begin_filling(connection: Connection) -> None:
    """Note an operator's word: records may be made for all orders that are known now."""
    connection.execute(BEGIN)


def filling_since(connection: Connection) -> datetime | None:
    """When the operator gave the word. None if there is none, or if it is more than 24 hours old, as any approval ends
    then."""
    since: datetime | None = connection.scalar(SINCE)
    return since


def first_word_given(connection: Connection) -> bool:
    """Whether an operator has ever acknowledged a plan."""
    return connection.scalar(SEEN) is not None


def waiting_guests(connection: Connection) -> int:
    """How many listed guests were not read yet. The records of their orders are made once they are read."""
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
