"""How long differences lasted before a run mended them, by class of drift, against a stated time.

All numbers of ended differences come from the journal's repairs, by one statement (``lasted``), which the metric of
the time out of sync is made of, too. That is too much for a page, most of all after an incident with many repairs. So
the last day and the last month are counted once an hour and stored. What is open now was counted by the last full run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection, Row, text

from panel.api_answer import api_answer

DAY, MONTH = timedelta(days=1), timedelta(days=30)
COUNTED = (DAY, MONTH)
"""What is stored. The day comes first, so that it is there if the month takes too long."""
COUNT_FOR_S = 35
"""How long the statement of one of them may take, in seconds. Together with pruning it fits into the time of the
task."""

OUT_OF_SYNC = "extract(epoch FROM applied_at - CAST(evidence ->> 'since' AS timestamptz))"
"""For how many seconds a difference had lasted when it was mended. NULL if nothing tells since when."""


def lasted(further: str) -> str:
    """The statement about the repairs of the last ``:window``, by class. ``further``: columns besides the times."""
    return (
        f"SELECT evidence ->> 'kind' AS kind, count(*) AS mended, {further},"  # noqa: S608 - own text
        f" CAST(percentile_cont(0.5) WITHIN GROUP (ORDER BY {OUT_OF_SYNC}) AS float8) AS median_s,"
        f" CAST(percentile_cont(0.95) WITHIN GROUP (ORDER BY {OUT_OF_SYNC}) AS float8) AS p95_s,"
        f" CAST(max({OUT_OF_SYNC}) AS float8) AS longest_s"
        " FROM operations WHERE kind = 'repair' AND state = 'applied' AND evidence ? 'kind'"
        " AND applied_at > statement_timestamp() - CAST(:window AS interval) GROUP BY 1"
    )


@api_answer
@dataclass(frozen=True, slots=True)
class Mended:
    """The differences of one class that runs mended in a stretch of time."""

    mended: Annotated[int, Field(description="How many")]
    timed: Annotated[int, Field(description="Of how many it is known how long they had lasted")]
    within: Annotated[int, Field(description="Of these, how many were mended within `within_s`")]
    within_s: Annotated[float, Field(description="MEND_WITHIN_S, as it was when they were counted")]
    share: Annotated[
        float | None,
        Field(description="`within` of `timed` and of those that are open for longer; null if there is none"),
    ]
    median_s: float | None
    p95_s: float | None
    longest_s: float | None


@api_answer
@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """One class of drift: what is open, and what was mended in the last 24 hours and 30 days. There null means that
    nothing was mended, or that it is not counted yet."""

    kind: str
    open: Annotated[int, Field(description="How many the last full run saw and did not mend")]
    open_since: Annotated[datetime | None, Field(description="Since when the oldest is open, if that is known")]
    late: Annotated[int, Field(description="How many of them were open for longer than MEND_WITHIN_S")]
    day: Mended | None
    month: Mended | None


@api_answer
@dataclass(frozen=True, slots=True)
class ServiceLevels:
    """The service level by class of drift. A class without any difference is left out."""

    within_s: Annotated[float, Field(description="MEND_WITHIN_S")]
    seen_at: Annotated[datetime | None, Field(description="When the last full run ended, which counted what is open")]
    counted_at: Annotated[datetime | None, Field(description="When the 30 days were counted: once an hour")]
    day_counted_at: Annotated[datetime | None, Field(description="When the 24 hours were counted: once an hour")]
    classes: list[ServiceLevel]


def service_levels(connection: Connection, within_s: float) -> ServiceLevels:
    """The service level now. ``within_s``: within how many seconds a difference should be mended."""
    run = connection.execute(LAST_FULL).one_or_none()
    counts: dict[str, Any] = {} if run is None else run.counts
    open_, late, since = (counts.get(name, {}) for name in ("open", "open_late", "open_since"))
    stored = connection.execute(STORED).all()
    day, month = ({row.kind: row for row in stored if row.days == window.days} for window in COUNTED)
    return ServiceLevels(
        within_s=within_s,
        seen_at=None if run is None else run.finished_at,
        counted_at=min((row.counted_at for row in month.values()), default=None),
        day_counted_at=min((row.counted_at for row in day.values()), default=None),
        classes=[
            ServiceLevel(
                kind=kind,
                open=open_.get(kind, 0),
                open_since=datetime.fromisoformat(since[kind]) if kind in since else None,
                late=late.get(kind, 0),
                day=_mended(day[kind], late.get(kind, 0)) if kind in day else None,
                month=_mended(month[kind], late.get(kind, 0)) if kind in month else None,
            )
            for kind in sorted({*open_, *day, *month})
        ],
    )


def count_levels(connection: Connection, window: timedelta, within_s: float) -> None:
    """Count one of ``COUNTED`` anew and store it. If nothing of a class was mended in this time, but in a longer one, 0
    is stored."""
    values = {"days": window.days, "window": window, "within_s": within_s}
    connection.execute(PATIENTLY)
    connection.execute(FORGET, values)
    connection.execute(COUNT, values)


def _mended(row: Row[Any], late: int) -> Mended:
    share = share_within(row.within, row.timed, late)
    return Mended(row.mended, row.timed, row.within, row.within_s, share, row.median_s, row.p95_s, row.longest_s)


def share_within(within: int, timed: int, late: int) -> float | None:
    """The share of differences that were mended in time. What is still open and late already counts as missed."""
    return within / (timed + late) if timed + late else None


_COUNTED = (
    f"count({OUT_OF_SYNC}) AS timed, count(*) FILTER (WHERE {OUT_OF_SYNC} <= CAST(:within_s AS float8)) AS within"
)
COUNT = text(
    'INSERT INTO service_levels ("class", days, mended, timed, "within", within_s, median_s, p95_s, longest_s)'  # noqa: S608 - own text
    " SELECT kind, :days, coalesce(mended, 0), coalesce(timed, 0), coalesce(within, 0), CAST(:within_s AS float8),"
    f" median_s, p95_s, longest_s FROM ({lasted(_COUNTED)}) counted FULL JOIN ("
    'SELECT DISTINCT "class" AS kind FROM service_levels WHERE days > :days) longer USING (kind)'
)
FORGET = text("DELETE FROM service_levels WHERE days = :days")
PATIENTLY = text(f"SET LOCAL statement_timeout = '{COUNT_FOR_S}s'")
STORED = text('SELECT "class" AS kind, * FROM service_levels')
LAST_FULL = text("SELECT counts, finished_at FROM runs WHERE kind = 'full' AND state = 'done' ORDER BY id DESC LIMIT 1")
