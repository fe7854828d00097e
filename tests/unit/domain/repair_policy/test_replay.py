"""Past deletes are judged as the gate would have judged them, and nothing is claimed that was not stored."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.changes import ChangePlan, Delete, DeleteOrphan, Kind
from domain.repair_policy.budget import Budget, Handling
from domain.repair_policy.replay import DAY, HOUR, Judged, PastDelete, Storm, Verdict, replay, storms
from reconcile.decision.gate import GateContext, gate
from tests.unit.reconcile.worlds import record

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
REPAIR: dict[Kind, Handling] = {}
ALONE = "by-approval:vps:1"


def run(number: int, count: int, *, after: timedelta = timedelta(0), **values: Any) -> list[PastDelete]:
    """The deletes of one run, of as many nodes and customers, unless ``values`` say otherwise."""
    ids = range(number * 1000, number * 1000 + count)
    return [
        PastDelete(**{
            "id": id_, "at": NOW + after, "run_id": number, "kind": Kind.DELETE, "node": ("main", f"pve{id_}"),
            "user_id": id_, **values,
        })
        for id_ in ids
    ]  # fmt: skip


def told(judged: list[Judged]) -> list[tuple[str, str | None, int]]:
    """(verdict, by, how many), in order."""
    counted = Counter((one.verdict.value, one.by) for one in judged)
    return [(verdict, by, count) for (verdict, by), count in counted.items()]


class Case(NamedTuple):
    reason: str
    deletes: list[PastDelete]
    expected: list[tuple[str, str | None, int]]
    budget: Budget = Budget()
    handling: dict[Kind, Handling] = REPAIR


LATER = timedelta(minutes=30)
CASES = [
    Case("at the limit of a run", run(1, 20), [("applied", None, 20)]),
    Case("one above it holds all of the run", run(1, 21), [("held", "run", 21)]),
    Case("two runs in an hour", run(1, 20) + run(2, 20, after=LATER), [("applied", None, 40)]),
    Case(
        "a third one in that hour is held as a whole",
        run(1, 20) + run(2, 20, after=LATER) + run(3, 1, after=2 * LATER - timedelta(seconds=1)),
        [("applied", None, 40), ("held", "hour", 1)],
    ),
    Case(
        "what the replay holds does not count for the next run",
        run(1, 21) + run(2, 20, after=LATER) + run(3, 20, after=LATER + timedelta(minutes=5)),
        [("held", "run", 21), ("applied", None, 40)],
    ),
    Case(
        "what an operator had approved was made, so it counts",
        run(1, 21, approved="deletes") + run(2, 20, after=LATER),
        [("held", "run", 21), ("held", "hour", 20)],
    ),
    Case(
        "a day",
        [one for hour in range(6) for one in run(hour + 1, 20, after=hour * HOUR)],
        [("applied", None, 100), ("held", "day", 20)],
    ),
    Case("a class that is ignored", run(1, 3), [("ignored", "class", 3)], handling={Kind.DELETE: Handling.IGNORE}),
    Case("a class that is held", run(1, 30), [("held", "class", 30)], handling={Kind.DELETE: Handling.HOLD}),
    Case(
        "only the class that is repaired is measured",
        run(1, 20) + run(1, 20, kind=Kind.ORPHAN, id=7),
        [("applied", None, 20), ("held", "class", 20)],
        handling={Kind.ORPHAN: Handling.HOLD},
    ),
    Case("nothing proved it", run(1, 1, approved=ALONE), [("held", "by-approval", 1)]),
    Case(
        "an ignored class is not asked about at all",
        run(1, 1, approved=ALONE),
        [("ignored", "class", 1)],
        handling={Kind.DELETE: Handling.IGNORE},
    ),
    Case("the class was not stored", run(1, 2, kind=None), [("unknown", None, 2)]),
    Case("a node's limit let them pass then", run(1, 9, node=("main", "pve1")), [("applied", None, 9)]),
    Case(
        "approved ones were not measured: how many records the node had is not stored",
        run(1, 4, node=("main", "pve1"), approved="class:missed-delete"),
        [("unknown", "node", 4)],
    ),
    Case(
        "as many as every node may lose",
        run(1, 3, node=("main", "pve1"), approved="class:missed-delete"),
        [("applied", None, 3)],
    ),
    Case(
        "two approved ones of one customer",
        run(1, 2, user_id=5, approved="class:missed-delete"),
        [("unknown", "customer", 2)],
    ),
    Case(
        "a record that is gone: neither node nor customer", run(1, 9, node=None, user_id=None), [("applied", None, 9)]
    ),
    Case("a lower limit", run(1, 5), [("held", "run", 5)], budget=Budget(deletes_run=4)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.reason)
def test_what_would_have_become_of_them(case: Case) -> None:
    ids = iter(range(len(case.deletes)))
    deletes = [replace(delete, id=next(ids)) for delete in case.deletes]
    assert told(replay(deletes, case.budget, case.handling)) == case.expected


def test_a_verdict_says_why() -> None:
    (held, *_) = replay(run(1, 21), Budget(), REPAIR)
    assert held.reason == "21 deletes in one run, the limit is 20"
    (unknown, *_) = replay(run(1, 4, node=("main", "pve1"), approved="deletes"), Budget(), REPAIR)
    assert "the limit is 3, or 20% of the records that the node had then" in unknown.reason


def test_nothing_is_within_the_limits_of_a_day_that_is_not_known() -> None:
    deletes = run(1, 20) + run(2, 21, after=HOUR) + run(3, 20, after=DAY)
    judged = replay(deletes, Budget(), REPAIR, known_since=NOW)
    assert told(judged) == [("unknown", "day", 20), ("held", "run", 21), ("applied", None, 20)]
    assert judged[0].reason.endswith("which deletes runs made before 2026-11-30 12:00 UTC is not known")
    assert told(replay(deletes, Budget(deletes_day=39), REPAIR, NOW - HOUR))[-1] == ("applied", None, 20)
    later = run(3, 20, after=DAY - HOUR)
    assert told(replay(run(1, 20) + later, Budget(deletes_day=39), REPAIR, NOW))[-1] == ("held", "day", 20), "it counts"


HOW = st.sampled_from(list(Handling))
NUMBERS = st.integers(0, 12)
BUDGETS = st.builds(Budget, deletes_run=NUMBERS, deletes_hour=NUMBERS, deletes_day=NUMBERS)
HANDLINGS = st.fixed_dictionaries({Kind.DELETE: HOW, Kind.ORPHAN: HOW})
RUNS = st.lists(
    st.tuples(
        st.integers(0, 3000),  # minutes
        st.lists(
            st.tuples(
                st.sampled_from([Kind.DELETE, Kind.ORPHAN, None]),
                st.sampled_from([None, ("main", "pve1"), ("main", "pve2")]),
                st.sampled_from([None, 5, 6]),
                st.sampled_from([None, None, "deletes", ALONE]),
            ),
            min_size=1,
            max_size=9,
        ),
    ),
    max_size=12,
)


def history(runs: list[Any]) -> list[PastDelete]:
    deletes: list[PastDelete] = []
    for run_id, (minutes, made) in enumerate(sorted(runs, key=lambda one: one[0])):
        for kind, node, user_id, approved in made:
            at = NOW + timedelta(minutes=minutes)
            deletes.append(PastDelete(len(deletes), at, run_id, kind, node, user_id, approved))
    return deletes


@given(RUNS.map(history), BUDGETS, HANDLINGS, st.randoms())
def test_each_delete_has_one_verdict_in_whatever_order_they_come(
    deletes: list[PastDelete], budget: Budget, handling: dict[Kind, Handling], random: Any
) -> None:
    judged = replay(deletes, budget, handling)
    assert sorted(one.delete.id for one in judged) == [delete.id for delete in deletes]
    shuffled = list(deletes)
    random.shuffle(shuffled)
    assert replay(shuffled, budget, handling) == judged


@given(RUNS.map(history), BUDGETS, HANDLINGS)
def test_what_is_applied_never_exceeds_a_limit(
    deletes: list[PastDelete], budget: Budget, handling: dict[Kind, Handling]
) -> None:
    judged = replay(deletes, budget, handling)
    for run_id in {one.delete.run_id for one in judged}:
        applied = [one for one in judged if one.delete.run_id == run_id and one.verdict is Verdict.APPLIED]
        if not applied:
            continue
        assert len(applied) <= budget.deletes_run
        began = applied[0].delete.at
        earlier = [one.delete.at for one in judged if one.counts and one.delete.run_id < run_id]
        for length, limit in ((HOUR, budget.deletes_hour), (DAY, budget.deletes_day)):
            # Of the same minute none counts as earlier: runs follow each other.
            assert sum(began - length < at < began for at in earlier) + len(applied) <= limit
        assert {handling[one.delete.kind] for one in applied if one.delete.kind} == {Handling.REPAIR}


@given(RUNS.map(history), BUDGETS, HANDLINGS, st.sampled_from(["deletes_run", "deletes_hour", "deletes_day"]), NUMBERS)
def test_a_higher_limit_never_holds_more_of_one_run(
    deletes: list[PastDelete], budget: Budget, handling: dict[Kind, Handling], limit: str, more: int
) -> None:
    """Of one run. Of several it may: what a higher limit lets pass counts against the next run."""
    one_run = [replace(delete, run_id=1, at=NOW) for delete in deletes]
    higher = replace(budget, **{limit: getattr(budget, limit) + more})

    def held(measured_by: Budget) -> set[int]:
        return {one.delete.id for one in replay(one_run, measured_by, handling) if one.verdict is Verdict.HELD}

    assert held(higher) <= held(budget)


@given(RUNS.map(history), st.integers(0, 12), st.integers(0, 12), HANDLINGS)
def test_a_higher_limit_of_a_run_alone_never_holds_more(
    deletes: list[PastDelete], limit: int, more: int, handling: dict[Kind, Handling]
) -> None:
    def held(at_most: int) -> set[int]:
        budget = Budget(deletes_run=at_most, deletes_hour=10_000, deletes_day=10_000)
        return {one.delete.id for one in replay(deletes, budget, handling) if one.verdict is Verdict.HELD}

    assert held(limit + more) <= held(limit)


@given(RUNS.map(history))
def test_without_limits_only_what_nothing_proved_is_held(deletes: list[PastDelete]) -> None:
    most = 10_000
    budget = Budget(most, most, most, deletes_node_min=most, deletes_user_min=most)
    for one in replay(deletes, budget, REPAIR):
        expected = Verdict.HELD if one.delete.approved == ALONE else Verdict.APPLIED
        assert one.verdict is (Verdict.UNKNOWN if one.delete.kind is None else expected)


@given(RUNS.map(history), BUDGETS, HANDLINGS)
def test_one_run_is_judged_as_its_gate_would(
    deletes: list[PastDelete], budget: Budget, handling: dict[Kind, Handling]
) -> None:
    """With nodes and customers of no records but these, the smallest limit is the limit, as it is surely."""
    known = [
        PastDelete(
            number,
            NOW,
            1,
            delete.kind,
            delete.node,
            delete.user_id or 7,
            ALONE if delete.approved == ALONE else "deletes",
        )
        for number, delete in enumerate(deletes)
        if delete.kind is not None
    ]
    changes = [
        (DeleteOrphan if delete.kind is Kind.ORPHAN else Delete)(
            source="orders",
            reason="why",
            record=replace(
                record(id=delete.id + 1, cluster=None, vmid=None, node=None),
                cluster=delete.node[0] if delete.node else None,
                node=delete.node[1] if delete.node else None,
                user_id=delete.user_id or 7,
            ),
            asks="nothing proves it" if delete.approved == ALONE else None,
        )
        for delete in known
    ]
    gated = gate(ChangePlan(tuple(changes), ()), GateContext(live=100), budget, handling)
    ids = {id(change): delete.id for change, delete in zip(changes, known, strict=True)}
    allowed = {ids[id(change)] for change in gated.allowed}
    ignored = {ids[id(change)] for change in gated.ignored}
    judged = replay(known, budget, handling)
    assert {one.delete.id for one in judged if one.verdict is Verdict.APPLIED} == allowed
    assert {one.delete.id for one in judged if one.verdict is Verdict.IGNORED} == ignored


def at(*minutes: int) -> list[datetime]:
    return [NOW + timedelta(minutes=minute) for minute in minutes]


def test_a_storm_of_calls_is_told_from_its_beginning_to_its_end() -> None:
    budget = Budget(pushed_deletes_hour=2)
    assert storms(at(0, 10, 61, 70, 200, 300), budget) == []
    first, second = at(20, 30)
    assert storms(at(0, 10, 20, 30, 200), budget) == [Storm(first, second, 4)]
    assert [storm.count for storm in storms(at(0, 1, 2, 500, 501, 502, 503), budget)] == [3, 4]
    assert storms([], Budget(pushed_deletes_hour=0)) == []


@given(st.lists(st.integers(0, 600)), st.integers(0, 5), st.integers(0, 5))
def test_a_higher_alarm_tells_no_more_storms_than_there_are_deletes_above_it(
    minutes: list[int], limit: int, more: int
) -> None:
    low, high = (storms(at(*minutes), Budget(pushed_deletes_hour=most)) for most in (limit, limit + more))
    assert all(any(outer.began <= one.began and one.ended <= outer.ended for outer in low) for one in high)
    assert all(storm.count > limit for storm in low)
