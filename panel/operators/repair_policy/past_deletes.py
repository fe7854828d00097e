"""Which deletes runs made lately, and what would have become of them under other limits and another policy.

The deletes by calls of the main site are told apart: no policy and no limit holds these, but many at once are an alarm.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, Row, text

from domain.changes import Kind
from domain.repair_policy.budget import Budget, Handling
from domain.repair_policy.replay import DAY, HOUR, Judged, PastDelete, Verdict, replay, storms
from panel.api_answer import api_answer
from panel.operator_error import OperatorError
from panel.operators.approvals.second_operator import APPROVED_FOR
from panel.operators.repair_policy.policies import DELETE_CLASSES, budget_of, checked_policy, handling_of
from panel.settings import Settings

MOST = 2_000
"""How many deletes are looked at, of both sources together; the newest ones."""
LEAD = DAY + HOUR
"""How far before the first of them deletes are counted in the limits of hour and day. The run that made the first one
began less than an hour before."""
MOST_DAYS = 90
"""How far back. The journal is kept for at least as long."""
LARGEST_LIMIT = 1_000_000

UNKNOWABLE = (
    "The journal has what was deleted. A delete that was held then, and never made, is not in it and is not judged.",
    "While a source is not believed, because it lost too much at once, no delete is planned: there is none to judge.",
    "How many records a node or a customer had on that day is not stored. Where a verdict depends on that, it is "
    "unknown. What a run deleted without an approval did pass these two limits, and no setting changes them.",
    "The node and the customer are those of the deleted record. After a restore they may be others.",
    "What is held here waits for an operator: later runs of the replay do not plan it again, as real ones would. The "
    "limits of the hour and the day count it only if an operator had approved it. An unknown one they count as made.",
    "The limits of the hour and the day also count what was made in the day before the first of these deletes, unless "
    "something would have held it. Where that day is not known, a delete that nothing holds is unknown.",
)
"""What the answer cannot know, or takes for granted. It is shown with every answer."""


@dataclass(frozen=True, slots=True)
class OtherLimits:
    """What an operator tries: limits in place of those of the settings (None: as set), and modes of the classes of
    deletes. The limits of one node and of one customer are no settings."""

    deletes_run: int | None = None
    deletes_hour: int | None = None
    deletes_day: int | None = None
    pushed_deletes_hour: int | None = None
    policy: Mapping[str, str] | None = None

    def budget(self, settings: Settings) -> Budget:
        """The limits of the settings with these in their place."""
        given = {
            "deletes_run": self.deletes_run,
            "deletes_hour": self.deletes_hour,
            "deletes_day": self.deletes_day,
            "pushed_deletes_hour": self.pushed_deletes_hour,
        }
        return replace(budget_of(settings), **{name: limit for name, limit in given.items() if limit is not None})


@api_answer
@dataclass(frozen=True, slots=True)
class DeleteCounts:
    """How many deletes have which verdict."""

    applied: int = 0
    held: int = 0
    ignored: int = 0
    unknown: int = 0


@api_answer
@dataclass(frozen=True, slots=True)
class DayView:
    """One day, by UTC. ``made``: how many deletes runs made then, by the verdict that each would have. ``pushed``: how
    many records calls of the main site deleted."""

    day: Annotated[str, Field(description="2026-11-30")]
    made: DeleteCounts
    pushed: int


@api_answer
@dataclass(frozen=True, slots=True)
class HeldBy:
    """How many deletes one limit, or the policy, would have held."""

    by: Annotated[str, Field(description="class, by-approval, run, hour or day")]
    count: int


@api_answer
@dataclass(frozen=True, slots=True)
class StormView:
    """More deletes by calls of the main site within one hour than the alarm allows. ``count``: the most in an hour."""

    began: datetime
    ended: datetime
    count: int


@api_answer
@dataclass(frozen=True, slots=True)
class DeleteView:
    """One delete that a run made, and what would have become of it. ``approved``: an operator had approved it."""

    operation_id: int
    at: datetime
    run_id: int | None
    vps_id: int
    kind: Annotated[str | None, Field(description="Its class: missed-delete or orphan")]
    cluster: str | None
    node: str | None
    user_id: int | None
    restored: bool
    approved: bool
    why: Annotated[str | None, Field(description="Why it was deleted then")]
    verdict: Literal["applied", "held", "ignored", "unknown"]
    by: Annotated[str | None, Field(description="What it depends on: a limit, or the policy")]
    reason: str


@api_answer
@dataclass(frozen=True, slots=True)
class PastDeletes:
    """The deletes of the last days, and what would have become of them. ``since``: all deletes from then on are here.
    ``cut``: there were more than the panel looks at, so ``since`` is later than asked. ``journal_since``: when the
    journal begins, if that is later. ``limits``, ``policy``: by which they were judged. ``unknowable``: what this
    answer cannot know."""

    days: int
    since: datetime
    cut: bool
    journal_since: datetime | None
    journal_days: int
    limits: dict[str, int]
    policy: dict[str, str]
    total: DeleteCounts
    pushed: int
    held_by: list[HeldBy]
    storms: list[StormView]
    by_day: list[DayView]
    deletes: Annotated[list[DeleteView], Field(description="Those that runs made, newest first")]
    unknowable: list[str]


def past_deletes(connection: Connection, settings: Settings, days: int, other: OtherLimits) -> PastDeletes:
    """Judge the deletes of the last ``days`` days by the limits and the policy of the settings, or by others. Raises
    OperatorError."""
    policy = checked_policy(other.policy, DELETE_CLASSES) if other.policy else {}
    budget, handling = _checked(other, days).budget(settings), handling_of(settings, policy)
    bounds = connection.execute(BOUNDS, {"days": days, "kept": settings.journal_days}).one()
    rows = connection.execute(DELETES, {"since": bounds.since, "most": MOST + 1}).all()
    cut = len(rows) > MOST
    rows = rows[:MOST]
    since = rows[-1].applied_at if cut else bounds.since
    made = [row for row in rows if row.kind == "repair"]
    pushed = [row.applied_at for row in rows if row.kind == "sync"]
    before, known_since = _day_before(connection, since, rows[-1].id if cut else 0, bounds.kept_since)
    approvals = _approvals(connection, [*made, *before])
    past = [_past(row, approvals) for row in (*made, *before)]
    judged = {one.delete.id: one for one in replay(past, budget, handling, known_since)}
    verdicts = [judged[row.id] for row in made]
    began, held_by = bounds.journal_since, Counter(str(one.by) for one in verdicts if one.verdict is Verdict.HELD)
    return PastDeletes(
        days=days,
        since=since,
        cut=cut,
        journal_since=began if began is not None and began > bounds.since else None,
        journal_days=settings.journal_days,
        limits={name: getattr(budget, name) for name in LIMITS},
        policy={kind: handling.get(Kind(kind), Handling.REPAIR).value for kind in DELETE_CLASSES},
        total=_counts(verdicts),
        pushed=len(pushed),
        held_by=[HeldBy(by, count) for by, count in held_by.most_common()],
        storms=[StormView(storm.began, storm.ended, storm.count) for storm in storms(pushed, budget)],
        by_day=_days(verdicts, pushed),
        deletes=[_view(row, judged[row.id]) for row in made],
        unknowable=list(UNKNOWABLE),
    )


def _day_before(
    connection: Connection, since: datetime, first_id: int, kept_since: datetime
) -> tuple[Sequence[Row[Any]], datetime]:
    """The deletes that runs made in the ``LEAD`` before ``since``, newest first, and since when all of them are known.
    At that very moment those before ``first_id``. ``kept_since``: the journal may lack what is older."""
    values = {"since": since - LEAD, "until": since, "before": first_id, "most": MOST + 1}
    rows = connection.execute(BEFORE, values).all()
    known_since = rows[MOST - 1].applied_at if len(rows) > MOST else since - LEAD
    return rows[:MOST], max(known_since, kept_since)


LIMITS = ("deletes_run", "deletes_hour", "deletes_day", "pushed_deletes_hour")
"""The limits that an operator may try, as the settings call them after ``budget_``."""


def _checked(other: OtherLimits, days: int) -> OtherLimits:
    if not 1 <= days <= MOST_DAYS:
        raise OperatorError("invalid", f"days is a whole number from 1 to {MOST_DAYS}")
    for name in LIMITS:
        limit = getattr(other, name)
        if limit is not None and not 0 <= limit <= LARGEST_LIMIT:
            raise OperatorError("invalid", f"{name} is a whole number from 0 to {LARGEST_LIMIT}")
    return other


Approvals = Mapping[str, Sequence[tuple[datetime, str]]]
"""By subject (``vps:12``): when an operator approved its delete, and the scope of the held set."""


def _approvals(connection: Connection, made: Sequence[Row[Any]]) -> Approvals:
    if not made:
        return {}
    subjects = sorted({f"vps:{row.vps_id}" for row in made})
    found: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    since = min(row.applied_at for row in made) - APPROVED_FOR
    values = {"since": since, "subjects": subjects}
    for row in connection.execute(APPROVALS, values):
        found[row.subject].append((row.decided_at, row.scope))
    return found


def _past(row: Row[Any], approvals: Approvals) -> PastDelete:
    scopes = [
        scope
        for decided_at, scope in approvals.get(f"vps:{row.vps_id}", ())
        if row.applied_at - APPROVED_FOR < decided_at <= row.applied_at
    ]
    # The journal has who approved it, also where that was on several held sets; older entries do not.
    approved = scopes[-1] if scopes else NO_SET if row.approved else None
    kind = Kind(row.class_) if row.class_ in DELETE_CLASSES else None
    node = (row.cluster, row.node) if row.cluster and row.node else None
    return PastDelete(row.id, row.applied_at, row.run_id, kind, node, row.user_id, approved)


NO_SET = ""
"""The scope of a delete that operators approved on several held sets, each a part."""


def _view(row: Row[Any], judged: Judged) -> DeleteView:
    return DeleteView(
        operation_id=row.id,
        at=row.applied_at,
        run_id=row.run_id,
        vps_id=row.vps_id,
        kind=row.class_,
        cluster=row.cluster,
        node=row.node,
        user_id=row.user_id,
        restored=row.restored,
        approved=judged.delete.approved is not None,
        why=row.reason,
        verdict=judged.verdict.value,
        by=judged.by,
        reason=judged.reason,
    )


def _counts(verdicts: Iterable[Judged]) -> DeleteCounts:
    return DeleteCounts(**Counter(one.verdict.value for one in verdicts))


def _days(verdicts: Sequence[Judged], pushed: Sequence[datetime]) -> list[DayView]:
    """The days on which anything was deleted, newest first."""
    made: dict[str, list[Judged]] = defaultdict(list)
    for one in verdicts:
        made[_day(one.delete.at)].append(one)
    calls = Counter(_day(at) for at in pushed)
    return [DayView(day, _counts(made.get(day, ())), calls[day]) for day in sorted({*made, *calls}, reverse=True)]


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}"


# The record is looked up for each row: a join would read all records, live and deleted.
_DELETES = """
WITH recent AS (
  SELECT o.id, o.kind, o.applied_at, o.run_id, o.vps_id, o.seq, o.reason, o.evidence ->> 'kind' AS class_,
    coalesce(o.evidence ? 'approved_by', false) AS approved
  FROM operations o
  WHERE o.action = 'delete' AND o.state = 'applied' AND o.applied_at > :since AND {which}
  ORDER BY o.applied_at DESC, o.id DESC LIMIT :most)
SELECT recent.*, r.cluster, r.node, r.user_id, recent.kind = 'repair' AND EXISTS (
    SELECT 1 FROM operations b WHERE b.vps_id = recent.vps_id AND b.seq > recent.seq AND b.action = 'restore'
  ) AS restored
FROM recent
LEFT JOIN LATERAL (SELECT v.cluster, v.node, v.user_id FROM vps v WHERE v.id = recent.vps_id LIMIT 1) r ON true
ORDER BY recent.applied_at DESC, recent.id DESC
"""
DELETES = text(_DELETES.format(which="o.kind IN ('repair', 'sync')"))
BEFORE = text(
    _DELETES.format(which="o.kind = 'repair' AND (o.applied_at, o.id) < (CAST(:until AS timestamptz), :before)")
)
BOUNDS = text(
    "SELECT statement_timestamp() - make_interval(days => :days) AS since,"
    " statement_timestamp() - make_interval(days => :kept) AS kept_since,"
    " (SELECT accepted_at FROM operations ORDER BY id LIMIT 1) AS journal_since"
)
APPROVALS = text(
    "SELECT item ->> 'subject' AS subject, h.scope, h.decided_at FROM holds h, jsonb_array_elements(h.items) AS item"
    " WHERE h.decision = 'approved' AND h.decided_at > :since AND item ->> 'action' = 'delete'"
    " AND item ->> 'subject' = ANY(CAST(:subjects AS text[])) ORDER BY h.decided_at"
)
