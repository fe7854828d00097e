"""Sources that did not answer in time: each lane leaves them alone for a while, for twice as long each time.

One that hangs then costs a lane its patience once in minutes, and not in every run.
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
    """Before when the lane need not ask the source; None if it may now."""
    late = _late(connection, source).get(lane)
    until = datetime.fromisoformat(late["until"]) if late else None
    return until if PAUSES.lasts(until, rows.database_now(connection)) else None


def note_late(connection: Connection, source: str, lane: str) -> None:
    """The lane waited in vain."""
    late = _late(connection, source)
    times = int(late.get(lane, {}).get("times", 0)) + 1
    until = (rows.database_now(connection) + PAUSES.pause(times)).isoformat()
    _keep(connection, source, late | {lane: {"times": times, "until": until}})


def note_in_time(connection: Connection, source: str, lanes: Iterable[str]) -> None:
    """It answered soon enough for these lanes."""
    late, well = _late(connection, source), set(lanes)
    if late.keys() & well:
        _keep(connection, source, {lane: told for lane, told in late.items() if lane not in well})


def _late(connection: Connection, source: str) -> dict[str, Any]:
    statement = text("SELECT circuit -> 'late' FROM source_states WHERE source = :source")
    return dict(connection.scalar(statement, {"source": source}) or {})


def _keep(connection: Connection, source: str, late: dict[str, Any]) -> None:
    source_memory.remember_circuit(connection, source, {"late": late})
