"""What would have become of past deletes under other limits and another policy. Pure.

The past is known only as far as it was stored. A delete that was made is known with its class, its run, its node and
its customer. How many records the node or the customer had on that day is not stored: where a verdict depends on that,
it is ``unknown``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from domain.changes import Kind
from domain.repair_policy.budget import BY_APPROVAL, Budget, Handling
from domain.repair_policy.delete_limits import DeleteLimit, DeleteMeasures, TooMany, too_many

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Verdict(StrEnum):
    """What would have become of a delete."""

    APPLIED = "applied"
    HELD = "held"
    IGNORED = "ignored"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PastDelete:
    """A delete that a run made. ``id``: of its operation. ``kind``: its class; None if it was not stored. ``node``,
    ``user_id``: of the record. ``approved``: the scope of the held set in which an operator had approved it, or
    None."""

    id: int
    at: datetime
    run_id: int
    kind: Kind | None
    node: tuple[str, str] | None = None
    user_id: int | None = None
    approved: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A past delete and what would have become of it. ``by``: what held it (class, by-approval, run, node, customer,
    hour, day), or None. ``reason``: one sentence."""

    delete: PastDelete
    verdict: Verdict
    by: str | None
    reason: str

    @property
    def counts(self) -> bool:
        """Whether the limits of the hour and of the day count it from then on: it would have been made, or nobody can
        tell and it was, or an operator approved it."""
        approved = self.verdict is Verdict.HELD and self.delete.approved is not None
        return approved or self.verdict in (Verdict.APPLIED, Verdict.UNKNOWN)


def replay(
    deletes: Iterable[PastDelete],
    budget: Budget,
    handling: Mapping[Kind, Handling],
    known_since: datetime | None = None,
) -> list[Judged]:
    """Judge deletes in the order of time, those of one run together, as its gate would have.

    ``known_since``: all deletes from then on are among them; None: there was none before. For a day from then on nobody
    can tell whether the limits of the hour and of the day let a delete pass.

    What is held waits for an operator, and the replay does not try it again. An approval of that time does not count as
    a verdict: the question is what the policy and the limits alone would have done.
    """
    runs: dict[int, list[PastDelete]] = defaultdict(list)
    for delete in sorted(deletes, key=lambda one: (one.at, one.id)):
        runs[delete.run_id].append(delete)
    made: list[datetime] = []
    judged: list[Judged] = []
    for run in sorted(runs.values(), key=lambda run: (run[0].at, run[0].run_id)):
        began = run[0].at
        verdicts = _judged(run, _made_since(made, began, HOUR), _made_since(made, began, DAY), budget, handling)
        if known_since is not None and began - DAY < known_since:
            verdicts = [_unsure(one, known_since) for one in verdicts]
        judged += verdicts
        for one in verdicts:
            if one.counts:
                insort(made, one.delete.at)
    return judged


def _unsure(one: Judged, known_since: datetime) -> Judged:
    """What nothing held, if some deletes of the day before are not known."""
    if one.verdict is not Verdict.APPLIED:
        return one
    when = f"{known_since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    reason = f"perhaps too many in a day: which deletes runs made before {when} is not known"
    return Judged(one.delete, Verdict.UNKNOWN, DeleteLimit.DAY.value, reason)


def _made_since(made: Sequence[datetime], now: datetime, length: timedelta) -> int:
    """How many of ``made`` (sorted) were less than ``length`` before ``now``."""
    return bisect_left(made, now) - bisect_right(made, now - length)


def _judged(
    run: Sequence[PastDelete], last_hour: int, last_day: int, budget: Budget, handling: Mapping[Kind, Handling]
) -> list[Judged]:
    """The verdicts about the deletes of one run, in their order. It asks what the gate asks, in the same order."""
    verdicts = {delete.id: one for delete in run if (one := _by_class(delete, handling)) is not None}
    measured = [delete for delete in run if delete.id not in verdicts]
    measures = DeleteMeasures(last_hour, last_day, *_surely_allowed(run, budget))
    for stopped in too_many(measured, measures, budget):
        verdicts |= {delete.id: _stopped(delete, stopped, budget) for delete in stopped.deletes}
    within = "within every limit"
    return [verdicts.get(delete.id) or Judged(delete, Verdict.APPLIED, None, within) for delete in run]


def _by_class(delete: PastDelete, handling: Mapping[Kind, Handling]) -> Judged | None:
    if delete.kind is None:
        return Judged(delete, Verdict.UNKNOWN, None, "the class of this delete was not stored")
    how = handling.get(delete.kind, Handling.REPAIR)
    if how is Handling.IGNORE:
        return Judged(delete, Verdict.IGNORED, "class", f"the policy ignores every {delete.kind.value}")
    if delete.approved is not None and delete.approved.startswith(BY_APPROVAL):
        return Judged(delete, Verdict.HELD, BY_APPROVAL, "nothing proved it, so it needs an approval under any policy")
    if how is Handling.HOLD:
        return Judged(delete, Verdict.HELD, "class", f"the policy holds every {delete.kind.value}")
    return None


class _Passed:
    """How many deletes of one node or customer a run may surely make: the least that the limit ever is, or as many as
    this very run made without an approval, since the limit let those pass."""

    def __init__(self, least: int, passed: Mapping[object, int]) -> None:
        self._least, self._passed = least, passed

    def __call__(self, subject: object) -> int:
        return max(self._least, self._passed.get(subject, 0))


def _surely_allowed(run: Sequence[PastDelete], budget: Budget) -> tuple[_Passed, _Passed]:
    passed = [delete for delete in run if delete.approved is None]
    nodes: Counter[object] = Counter(delete.node for delete in passed)
    users: Counter[object] = Counter(delete.user_id for delete in passed)
    return _Passed(budget.deletes_node_min, nodes), _Passed(budget.deletes_user_min, users)


def _stopped(delete: PastDelete, stopped: TooMany[PastDelete], budget: Budget) -> Judged:
    match stopped.limit:
        case DeleteLimit.NODE:
            least, share, whose = budget.deletes_node_min, budget.deletes_node_share, "node"
        case DeleteLimit.CUSTOMER:
            least, share, whose = budget.deletes_user_min, budget.deletes_user_share, "customer"
        case _:
            return Judged(delete, Verdict.HELD, stopped.limit.value, stopped.reason)
    reason = (
        f"perhaps too many of its {whose} in one run: the limit is {least}, or {share:.0%} of the records that the "
        f"{whose} had then, and how many these were is not stored"
    )
    return Judged(delete, Verdict.UNKNOWN, stopped.limit.value, reason)


@dataclass(frozen=True, slots=True)
class Storm:
    """More deletes by calls of the main site within an hour than the alarm ``delete-storm`` allows. ``count``: the most
    within one hour."""

    began: datetime
    ended: datetime
    count: int


def storms(pushed: Iterable[datetime], budget: Budget) -> list[Storm]:
    """When the main site's own calls deleted so many records that an alarm is due. No limit holds them."""
    moments = sorted(pushed)
    found: list[Storm] = []
    going_on = False
    for position, at in enumerate(moments):
        count = position + 1 - bisect_right(moments, at - HOUR)
        if count <= budget.pushed_deletes_hour:
            going_on = False
        elif going_on:
            found[-1] = Storm(found[-1].began, at, max(found[-1].count, count))
        else:
            found.append(Storm(at, at, count))
            going_on = True
    return found
