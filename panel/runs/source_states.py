"""What runs remember of each source, also over a restart: when it may be asked again, since when it is not believed.

Runs store it, one alarm reports it, every view reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert as pg_insert

from domain.backoff import Backoff
from domain.source_troubles import FINDING_CLASS, Cause, Trouble, remedy_of
from panel.api_answer import api_answer
from panel.journal import rows
from panel.operator_error import OperatorError
from panel.schema.source_tables import source_states

ALARM_GRACE_S = 60.0
"""How long a source may have trouble before it is an alarm. A restart or one lost answer is over by then."""

LATE_BACKOFF = Backoff(timedelta(seconds=20), timedelta(minutes=5))
"""How long a kind of run leaves alone a source that did not answer in time. The pause doubles each time, so a source
that hangs costs a run its full wait only once in some minutes, not every time."""


@api_answer
@dataclass(frozen=True, slots=True)
class SourceView:
    """The state of a source, and whether it is paused."""

    source: str
    read_at: Annotated[datetime | None, Field(description="Its last complete read")]
    degraded_reason: str | None
    read_age_s: Annotated[float | None, Field(description="Seconds since `read_at`")]
    entries: Annotated[int | None, Field(description="How many entries its last complete read showed")]
    cause: Annotated[
        Literal["unread", "incomplete", "mass-loss", "old", "not-imported"] | None,
        Field(description="Why it is not believed, or only in part; null: it has no trouble"),
    ]
    reason: str | None
    since: Annotated[datetime | None, Field(description="Since when it is not believed")]
    age_s: Annotated[float | None, Field(description="For how many seconds")]
    remedy: Annotated[str | None, Field(description="What to do about it")]
    alarm: Annotated[bool, Field(description="Whether a person must look at it now")]
    severity: Literal["warning", "alarm"] | None
    paused_until: datetime | None
    paused_by: str | None
    pause_reason: str | None

    @property
    def paused(self) -> bool:
        return self.paused_until is not None


def source_state(connection: Connection, source: str) -> dict[str, Any]:
    """What is stored for a source; an empty mapping for a new one."""
    row = connection.execute(select(source_states).where(source_states.c.source == source)).one_or_none()
    return dict(row._mapping) if row is not None else {}


def backoff_states(connection: Connection, sources: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What is stored by ``remember_backoff``, by source; no entry for a source of which nothing is."""
    statement = select(source_states.c.source, source_states.c.backoff_state)
    rows = connection.execute(statement.where(source_states.c.source.in_(list(sources))))
    return {row.source: dict(row.backoff_state) for row in rows if row.backoff_state is not None}


def remember_source(connection: Connection, source: str, **values: Any) -> None:  # noqa: ANN401 - columns
    """Store columns for a source."""
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    changes = ", ".join(f"{name} = excluded.{name}" for name in values)
    connection.execute(
        text(
            f"INSERT INTO source_states (source, {names}) VALUES (:source, {marks}) "  # noqa: S608 - own column names
            f"ON CONFLICT (source) DO UPDATE SET {changes}"
        ),
        {"source": source, **values},
    )


def remember_backoff(connection: Connection, source: str, backoff: Mapping[str, Any]) -> None:
    """Store these keys of a source's backoff state for the next process; other keys stay."""
    states = source_states
    upsert = pg_insert(states).values(source=source, backoff_state=dict(backoff))
    kept = func.coalesce(states.c.backoff_state, text("'{}'::jsonb")).op("||")(upsert.excluded.backoff_state)
    connection.execute(upsert.on_conflict_do_update(index_elements=["source"], set_={"backoff_state": kept}))


def users_imported(connection: Connection) -> bool:
    """Whether the main site's users were ever read completely."""
    return connection.scalar(text("SELECT max(last_users_at) FROM source_states")) is not None


def late_until(connection: Connection, source: str, lane: str) -> datetime | None:
    """Until when this kind of run leaves the source alone; None if it may ask now."""
    late = _late(connection, source).get(lane)
    until = datetime.fromisoformat(late["until"]) if late else None
    return until if LATE_BACKOFF.lasts(until, rows.database_now(connection)) else None


def late_lanes(connection: Connection) -> dict[str, frozenset[str]]:
    """By source that was late: the kinds of run for which that is noted. Most sources are not among them."""
    return {row.source: frozenset(row.lanes) for row in connection.execute(text(LATE))}


def degraded_sources(connection: Connection) -> frozenset[str]:
    """The sources that lost much at once, until they are believed again."""
    rows = connection.execute(text("SELECT source FROM source_states WHERE degraded_since IS NOT NULL"))
    return frozenset(row.source for row in rows)


def note_late(connection: Connection, source: str, lane: str) -> None:
    """Note that this kind of run waited in vain for the source."""
    late = _late(connection, source)
    times = int(late.get(lane, {}).get("times", 0)) + 1
    until = (rows.database_now(connection) + LATE_BACKOFF.pause(times)).isoformat()
    _keep_late(connection, source, late | {lane: {"times": times, "until": until}})


def note_in_time(connection: Connection, source: str, lanes: Iterable[str]) -> None:
    """Note that the source answered soon enough for these kinds of run."""
    late, answered = _late(connection, source), set(lanes)
    if late.keys() & answered:
        _keep_late(connection, source, {lane: pause for lane, pause in late.items() if lane not in answered})


LATE = """
SELECT source, ARRAY(SELECT jsonb_object_keys(backoff_state -> 'late')) AS lanes
FROM source_states WHERE jsonb_typeof(backoff_state -> 'late') = 'object'
"""


def _late(connection: Connection, source: str) -> dict[str, Any]:
    statement = text("SELECT backoff_state -> 'late' FROM source_states WHERE source = :source")
    return dict(connection.scalar(statement, {"source": source}) or {})


def _keep_late(connection: Connection, source: str, late: dict[str, Any]) -> None:
    remember_backoff(connection, source, {"late": late})


def report_sources(connection: Connection, run_id: int | None, seen: Mapping[str, Trouble | None]) -> None:
    """Store each source's trouble, open its alarm when it is due, and end the alarms of sources without trouble."""
    for source, trouble in seen.items():
        if trouble is None:
            continue
        values = {"source": source, "cause": trouble.cause.value, "reason": trouble.reason}
        connection.execute(UNWELL, values)
        if trouble.at_once or (connection.scalar(AGE, {"source": source}) or 0.0) >= ALARM_GRACE_S:
            rows.raise_finding(
                connection,
                FINDING_CLASS,
                _subject(source),
                f"{source} is not believed: {_sentence(source, trouble)}",
                severity=trouble.severity,
                last_run_id=run_id,
                cause=trouble.cause.value,
                cluster=source.removeprefix("proxmox:") if source.startswith("proxmox:") else None,
            )
    _end_troubles(connection, [source for source, trouble in seen.items() if trouble is None])


def forget_other_sources(connection: Connection, configured: Iterable[str]) -> None:
    """End the troubles of sources that are paused or no longer configured."""
    _end_troubles(connection, list(connection.scalars(OTHERS, {"configured": sorted(configured)})))


def _sentence(source: str, trouble: Trouble) -> str:
    """The reason and the remedy of a trouble."""
    remedy = remedy_of(source, trouble.cause)
    return f"{trouble.reason}. {remedy[0].upper()}{remedy[1:]}"  # capitalize() would put names into lower case


def list_sources(connection: Connection) -> list[SourceView]:
    """Every source that was read, has trouble or is paused, by name."""
    return [_view_of(dict(row._mapping)) for row in connection.execute(SOURCES, {"grace": ALARM_GRACE_S})]


def _end_troubles(connection: Connection, sources: list[str]) -> None:
    if sources:
        connection.execute(WELL, {"sources": sources})
        connection.execute(RESOLVE, {"class": FINDING_CLASS, "subjects": [_subject(source) for source in sources]})


def _subject(source: str) -> str:
    return f"source:{source}"


def _view_of(row: dict[str, Any]) -> SourceView:
    cause = row["cause"]
    trouble = Trouble(Cause(cause), row["reason"]) if cause in set(Cause) else None
    late = trouble is not None and (trouble.at_once or row["age_s"] >= ALARM_GRACE_S)
    return SourceView(
        **row,
        remedy=remedy_of(row["source"], trouble.cause) if trouble is not None else None,
        alarm=late and row["paused_until"] is None,
        severity=trouble.severity if trouble is not None else None,
    )


def acknowledge_source(connection: Connection, source: str) -> str:
    """Note that an operator confirms a source that lost much at once. The confirmation covers only what is missing now.
    Returns the confirmed sentence. Raises OperatorError."""
    state = source_state(connection, source)
    if state.get("degraded_since") is None:
        raise OperatorError("conflict", f"{source} is not degraded; `panel-sync sources` lists what is")
    remember_source(connection, source, acknowledged_at=rows.database_now(connection))
    return str(state["degraded_reason"])


def acknowledged_in_words(source: str, confirmed: str) -> str:
    """Tell the operator what the acknowledgement means. ``confirmed``: from ``acknowledge_source``."""
    return (
        f"{source} is believed again. You said that this is right: {confirmed.partition(';')[0]}. They count as "
        "missing from the next read on. A record is deleted only after the whole proof of absence, and within the "
        "limits. If much more goes missing, you are asked again."
    )


UNWELL = text(
    "INSERT INTO source_states AS s (source, unwell_since, unwell_cause, unwell_reason)"
    " VALUES (:source, clock_timestamp(), :cause, :reason) ON CONFLICT (source) DO UPDATE"
    " SET unwell_since = coalesce(s.unwell_since, excluded.unwell_since), unwell_cause = excluded.unwell_cause,"
    " unwell_reason = excluded.unwell_reason"
    " WHERE (s.unwell_cause, s.unwell_reason) IS DISTINCT FROM (excluded.unwell_cause, excluded.unwell_reason)"
)
AGE = text("SELECT extract(epoch FROM clock_timestamp() - unwell_since) FROM source_states WHERE source = :source")
WELL = text(
    "UPDATE source_states SET unwell_since = NULL, unwell_cause = NULL, unwell_reason = NULL"
    " WHERE source = ANY(CAST(:sources AS text[])) AND unwell_since IS NOT NULL"
)
RESOLVE = text(
    "UPDATE findings SET resolved_at = clock_timestamp()"
    " WHERE class = :class AND resolved_at IS NULL AND subject = ANY(CAST(:subjects AS text[]))"
)
OTHERS = text(
    "SELECT source FROM source_states WHERE unwell_since IS NOT NULL AND NOT source = ANY(CAST(:configured AS text[]))"
)
SOURCES = text(
    "SELECT source, coalesce(r.read_at, t.last_users_at) AS read_at,"
    " CAST(extract(epoch FROM clock_timestamp() - coalesce(r.read_at, t.last_users_at)) AS float8) AS read_age_s,"
    " r.entries, t.unwell_cause AS cause, t.unwell_reason AS reason, t.unwell_since AS since,"
    " CAST(extract(epoch FROM clock_timestamp() - t.unwell_since) AS float8) AS age_s,"
    " p.paused_until, p.paused_by, p.reason AS pause_reason,"
    " CASE WHEN t.degraded_since IS NOT NULL THEN t.degraded_reason END AS degraded_reason"
    " FROM (SELECT source, max(began_at) AS read_at, max(count) FILTER (WHERE scope = 'all') AS entries"
    " FROM scopes GROUP BY source) r FULL JOIN source_states t USING (source)"
    " FULL JOIN (SELECT target AS source, paused_until, paused_by, reason FROM pauses"
    " WHERE target !~ '^(vps|user):' AND paused_until > clock_timestamp()) p USING (source)"
    " WHERE source <> 'panel' ORDER BY source"
)
