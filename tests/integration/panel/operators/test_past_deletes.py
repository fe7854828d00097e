"""The deletes of the last days, from the journal of real runs, and what other limits would have made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from domain.changes import Kind
from domain.repair_policy.budget import Handling
from panel.journal.restore import restore_vps
from panel.operator_error import OperatorError
from panel.operators.approvals.deciding import decide_hold
from panel.operators.holds import Decision, list_holds
from panel.operators.repair_policy import past_deletes as module
from panel.operators.repair_policy.past_deletes import DeleteCounts, HeldBy, OtherLimits, PastDeletes, past_deletes
from panel.sessions import sync_engine
from panel.settings import Settings
from reconcile.run import RunResult, run_full
from tests.support.databases import Databases
from tests.support.fleets.hoster import Hoster

HELD = {Kind.ORPHAN: Handling.HOLD}
SETTINGS = Settings(_env_file=None, repair_policy={"orphan": "hold"}, budget_deletes_run=7)


def run_held(reconciler: Any, trigger: str) -> RunResult:
    return run_full(replace(reconciler, handling=HELD), trigger=trigger)


@pytest.fixture(scope="module")
def hoster(databases: Databases) -> Iterator[Hoster]:
    """Of twelve machines runs deleted three whose orders ended, at once; then two orphans that an operator approved.
    Calls deleted three, and one of the first was restored."""
    database = databases.clone()
    engine = sync_engine(database.app_url, "panel-sync test", pool_size=4)
    made = Hoster(engine)
    made.open()
    sold = made.sell(12)
    made.full(3)
    for order_id in sold[:3]:
        made.end(order_id)
    made._runs(run_held, 3)
    for order_id in sold[3:5]:
        made.forget(order_id)
        made.cluster.guests.pop(made.vmids[order_id])
    made._runs(run_held, 4)
    with engine.begin() as connection:
        (held,) = list_holds(connection)
        decide_hold(connection, held.hash, Decision.APPROVED, "olga", above=None)
    made._runs(run_held, 1)
    assert made.count("vps", "deleted_at IS NULL") == 7
    with engine.begin() as connection:
        first = connection.scalar(text("SELECT min(vps_id) FROM operations WHERE action = 'delete'"))
        assert first is not None
        restore_vps(connection, first, "the customer paid", "olga")
        connection.execute(text(PUSHED))
    yield made
    engine.dispose()
    databases.drop(database)


PUSHED = """
INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, accepted_at, applied_at, publish_at)
SELECT 'sync', 'delete', vps_id, 1000, 'sync', '{}', 'applied', clock_timestamp(), clock_timestamp(), NULL
FROM vps_queues ORDER BY vps_id DESC LIMIT 3
"""


AGED = """
UPDATE operations o SET applied_at = clock_timestamp() - CASE WHEN o.kind = 'sync' THEN interval '40 days'
  WHEN o.evidence ->> 'kind' = 'orphan' THEN interval '20 hours' ELSE interval '25 hours' END
WHERE o.action = 'delete'
"""
"""Three deletes 25 hours ago and two 20 hours ago, by runs; none by calls lately."""
REPAIRED = {"orphan": "repair"}


def judged(hoster: Hoster, days: int = 30, **other: Any) -> PastDeletes:
    with hoster.engine.begin() as connection:
        return past_deletes(connection, SETTINGS, days, OtherLimits(**other))


def test_by_the_settings(hoster: Hoster) -> None:
    found = judged(hoster)
    assert found.total == DeleteCounts(applied=3, held=2)
    assert found.held_by == [HeldBy("class", 2)]
    assert (found.pushed, found.storms, found.cut) == (3, [], False)
    assert [(day.made, day.pushed) for day in found.by_day if day.pushed] == [(found.total, 3)]
    assert (found.policy, found.limits["deletes_run"]) == ({"missed-delete": "repair", "orphan": "hold"}, 7)
    assert found.journal_since is not None, "this journal is younger than 30 days"
    orphans, ended = found.deletes[:2], found.deletes[2:]
    assert {(one.kind, one.verdict, one.approved, one.restored) for one in orphans} == {("orphan", "held", True, False)}
    assert [(one.kind, one.verdict, one.approved) for one in ended] == [("missed-delete", "applied", False)] * 3
    assert sorted(one.restored for one in ended) == [False, False, True]
    assert all(one.cluster == "main" and one.node and one.user_id and one.run_id and one.why for one in found.deletes)
    assert found.unknowable


@pytest.mark.parametrize(
    ("other", "total"),
    [
        pytest.param({"policy": {"orphan": "repair"}}, DeleteCounts(applied=5), id="orphans are repaired"),
        pytest.param({"policy": {"missed-delete": "ignore"}}, DeleteCounts(ignored=3, held=2), id="a class is ignored"),
        pytest.param({"deletes_run": 2}, DeleteCounts(held=5), id="a lower limit of a run"),
        pytest.param(
            {"policy": {"orphan": "repair"}, "deletes_hour": 4}, DeleteCounts(applied=3, held=2), id="of an hour"
        ),
        pytest.param(
            {"policy": {"orphan": "repair"}, "deletes_day": 4}, DeleteCounts(applied=3, held=2), id="of a day"
        ),
    ],
)
def test_by_others(hoster: Hoster, other: dict[str, Any], total: DeleteCounts) -> None:
    assert judged(hoster, **other).total == total


def test_what_two_operators_approved_on_different_sets(hoster: Hoster) -> None:
    """No held set is approved as a whole; the journal names who approved the deletes."""
    with hoster.engine.connect() as connection:
        connection.execute(text("UPDATE holds SET decision = 'expired' WHERE decision = 'approved'"))
        found = past_deletes(connection, SETTINGS, 30, OtherLimits())
        connection.rollback()
    assert sum(one.approved for one in found.deletes) == 2


def test_pushed_deletes_are_an_alarm_and_nothing_holds_them(hoster: Hoster) -> None:
    found = judged(hoster, pushed_deletes_hour=2, policy={"orphan": "ignore", "missed-delete": "ignore"})
    assert ([storm.count for storm in found.storms], found.pushed) == ([3], 3)


def test_it_looks_at_so_many_and_says_so(hoster: Hoster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 4)
    found = judged(hoster)
    assert (found.cut, found.pushed, len(found.deletes)) == (True, 3, 1)
    assert found.since == found.deletes[-1].at


def test_the_day_before_the_first_counts_too(hoster: Hoster) -> None:
    with hoster.engine.connect() as connection:
        connection.execute(text(AGED))
        for limit, total in ((4, DeleteCounts(held=2)), (5, DeleteCounts(applied=2))):
            found = past_deletes(connection, SETTINGS, 1, OtherLimits(deletes_day=limit, policy=REPAIRED))
            assert (found.total, len(found.deletes)) == (total, 2), "those of the day before are counted and not shown"
        connection.rollback()


def test_so_does_what_it_does_not_look_at(hoster: Hoster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 4)
    assert judged(hoster, deletes_day=4, policy=REPAIRED).total == DeleteCounts(held=1)
    assert judged(hoster, deletes_day=5, policy=REPAIRED).total == DeleteCounts(applied=1)


def test_what_is_not_known_of_the_day_before_is_not_within_a_limit(
    hoster: Hoster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    with hoster.engine.connect() as connection:
        connection.execute(text(AGED))
        connection.execute(text("UPDATE operations SET applied_at = applied_at + interval '1 h' WHERE kind = 'repair'"))
        found = past_deletes(connection, SETTINGS, 30, OtherLimits(policy=REPAIRED))
        connection.rollback()
    assert found.total == DeleteCounts(unknown=2)
    assert {one.by for one in found.deletes} == {"day"}


@pytest.mark.parametrize(
    ("days", "other", "named"),
    [
        (0, {}, "days is a whole number from 1 to 90"),
        (91, {}, "days is a whole number from 1 to 90"),
        (30, {"deletes_hour": -1}, "deletes_hour is a whole number from 0 to 1000000"),
        (30, {"policy": {"plan": "hold"}}, "the classes are: missed-delete, orphan"),
        (30, {"policy": {"orphan": "delete"}}, "repair, hold, ignore"),
    ],
)
def test_a_wrong_number_or_word_is_answered_with_the_right_ones(
    hoster: Hoster, days: int, other: dict[str, Any], named: str
) -> None:
    with pytest.raises(OperatorError, match=named):
        judged(hoster, days, **other)
