"""Back-off for sources that do not answer in time: each kind of run leaves them alone, for twice as long each time.

A source that hangs then costs a run its full wait once in minutes instead of every time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from domain.backoff import Backoff
from panel.journal import rows
from panel.runs import source_memory

PAUSES = Backoff(timedelta(seconds=20), timedelta(minutes=5))


def late_until(connection: Connection, source: str, lane: str) -> datetime | None:
    """Until when this kind of run leaves the source alone; None if it may ask now."""
    late = _late(connection, source).get(lane)
    until = datetime.fromisoformat(late["until"]) if late else None
    return until if PAUSES.lasts(until, rows.database_now(connection)) else None


def note_late(connection: Connection, source: str, lane: str) -> None:
    """This kind of run waited in vain for the source."""
    late = _late(connection, source)
    times = int(late.get(lane, {}).get("times", 0)) + 1
    until = (rows.database_now(connection) + PAUSES.pause(times)).isoformat()
    _keep(connection, source, late | {lane: {"times": times, "until": until}})


def note_in_time(connection: Connection, source: str, lanes: Iterable[str]) -> None:
    """The source answered soon enough for these kinds of run."""
    late, well = _late(connection, source), set(lanes)
    if late.keys() & well:
        _keep(connection, source, {lane: told for lane, told in late.items() if lane not in well})


def _late(connection: Connection, source: str) -> dict[str, Any]:
    statement = text("SELECT backoff_state -> 'late' FROM source_states WHERE source = :source")
    return dict(connection.scalar(statement, {"source": source}) or {})


def _keep(connection: Connection, source: str, late: dict[str, Any]) -> None:
    source_memory.remember_circuit(connection, source, {"late": late})
