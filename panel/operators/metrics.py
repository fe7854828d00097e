"""Numbers for monitoring, read from the journal, the runs and the findings. Ages in seconds; no personal data."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, text

from panel.operators.service_levels import DAY, lasted
from panel.runs.schedule_duties import Duty, list_duties


def metrics(connection: Connection) -> dict[str, Any]:
    """All numbers at one moment: the journal, runs, sources, findings, held sets, pauses, quarantine, repairs, and the
    events for the main site."""
    numbers = dict(connection.execute(NUMBERS).one()._mapping)
    return {
        "journal": {name: numbers[name] for name in ("queued", "oldest_queued_s", "unpublished_s", "dead")},
        "records": {"live": numbers["live"]},
        "runs": _runs(connection),
        "sources": [dict(row._mapping) for row in connection.execute(SOURCES)],
        "findings": [dict(row._mapping) for row in connection.execute(FINDINGS)],
        "held": {"sets": numbers["held_sets"], "items": numbers["held_items"], "oldest_s": numbers["oldest_held_s"]},
        "pauses": numbers["pauses"],
        "quarantined": numbers["quarantined"],
        "lanes": [_lane(duty) for duty in list_duties(connection) if duty.every_s is not None],
        "repairs": [_repairs(row) for row in connection.execute(REPAIRS, {"window": DAY})],
        "webhooks": dict(connection.execute(WEBHOOKS).one()._mapping),
    }


def _lane(duty: Duty) -> dict[str, Any]:
    return {"lane": duty.lane, "every_s": duty.every_s, "last_done_s": duty.done_s, "late": duty.late}


def _repairs(row: Row[Any]) -> dict[str, Any]:
    numbers = dict(row._mapping)
    return {"kind": numbers.pop("kind"), "day": numbers.pop("mended"), **numbers}


def _runs(connection: Connection) -> list[dict[str, Any]]:
    phases: dict[str, dict[str, Any]] = {}
    for row in connection.execute(PHASES):
        phases.setdefault(row.kind, {})[row.phase] = {"mean_s": row.mean_s, "longest_s": row.longest_s}
    return [dict(row._mapping) | {"phases": phases.get(row.kind, {})} for row in connection.execute(RUNS)]


def _age(moment: str) -> str:
    return f"CAST(extract(epoch FROM clock_timestamp() - {moment}) AS float8)"


NUMBERS = text(
    "WITH waiting AS ("  # noqa: S608 - own text
    " SELECT * FROM holds WHERE decision IS NULL AND NOT starts_with(scope, 'by-approval:')) "
    "SELECT"
    " (SELECT count(*) FROM operations WHERE state = 'queued') AS queued,"
    f" (SELECT {_age('min(accepted_at)')} FROM operations WHERE state = 'queued') AS oldest_queued_s,"
    f" (SELECT {_age('min(accepted_at)')} FROM operations WHERE state = 'queued' AND publishes = 0) AS unpublished_s,"
    " (SELECT count(*) FROM operations WHERE state = 'dead') AS dead,"
    " (SELECT count(*) FROM vps WHERE deleted_at IS NULL) AS live,"
    " (SELECT count(*) FROM waiting) AS held_sets,"
    " (SELECT coalesce(sum(jsonb_array_length(items)), 0)::int FROM waiting) AS held_items,"
    f" (SELECT {_age('min(created_at)')} FROM waiting) AS oldest_held_s,"
    " (SELECT count(*) FROM pauses WHERE paused_until > clock_timestamp()) AS pauses,"
    " (SELECT count(*) FROM quarantine WHERE next_try_at IS NOT NULL) AS quarantined"
)
RUNS = text(
    "SELECT kind, count(*) FILTER (WHERE state = 'done') AS done_day,"
    " count(*) FILTER (WHERE state IN ('failed', 'abandoned')) AS failed_day,"
    " CAST(extract(epoch FROM clock_timestamp() - max(finished_at) FILTER (WHERE state = 'done')) AS float8)"
    " AS last_done_s,"
    " CAST(max(extract(epoch FROM finished_at - started_at)) FILTER (WHERE state = 'done') AS float8) AS longest_s"
    " FROM runs WHERE started_at > statement_timestamp() - interval '1 day' GROUP BY kind ORDER BY kind"
)
PHASES = text(
    "SELECT kind, p.key AS phase, avg(CAST(p.value AS float8)) AS mean_s, max(CAST(p.value AS float8)) AS longest_s"
    " FROM runs, jsonb_each_text(counts -> 'phases') p"
    " WHERE started_at > statement_timestamp() - interval '1 day' AND state = 'done' GROUP BY kind, p.key"
)
_BACKING_OFF = (
    "CAST(t.backoff_state ->> 'open_until' AS timestamptz) > clock_timestamp()"
    " OR EXISTS (SELECT 1 FROM jsonb_each(t.backoff_state -> 'late') AS late (lane, pause)"
    " WHERE CAST(late.pause ->> 'until' AS timestamptz) > clock_timestamp())"
)
SOURCES = text(
    f"SELECT s.source, {_age('max(s.began_at)')} AS read_s, coalesce(bool_or(t.degraded_since IS NOT NULL), false)"  # noqa: S608 - own text
    f" AS degraded, {_age('max(t.unwell_since)')} AS unwell_s, coalesce(bool_or({_BACKING_OFF}), false) AS backing_off"
    " FROM scopes s LEFT JOIN source_states t USING (source) GROUP BY s.source ORDER BY s.source"
)
FINDINGS = text(
    f'SELECT "class", severity, count(*) AS open, {_age("min(first_seen_at)")} AS oldest_s'  # noqa: S608 - own text
    ' FROM findings WHERE resolved_at IS NULL GROUP BY "class", severity ORDER BY "class", severity'
)
WEBHOOKS = text(
    "SELECT (SELECT count(*) FROM webhook_events WHERE state = 'waiting') AS waiting,"  # noqa: S608 - own text
    f" (SELECT {_age('min(created_at)')} FROM webhook_events WHERE state = 'waiting') AS oldest_waiting_s,"
    " (SELECT count(*) FROM webhook_events WHERE state = 'dead') AS dead,"
    f" disabled_at IS NOT NULL AS disabled, {_age('failing_since')} AS failing_s FROM webhook_endpoint"
)
REPAIRS = text(
    lasted("count(*) FILTER (WHERE applied_at > clock_timestamp() - interval '1 hour') AS hour") + " ORDER BY 1"
)
