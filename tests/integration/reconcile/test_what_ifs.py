"""A what-if shows what another repair policy would do, and leaves everything as it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from domain.changes import Kind
from domain.repair_policy.budget import Handling
from panel.operator_error import OperatorError
from panel.operators.actions import runs
from panel.operators.audit import Actor
from panel.operators.pauses import pause
from panel.operators.repair_policy.outcome import HeldThen, Moved
from panel.operators.repair_policy.what_ifs import LOST, WhatIf, ask_what_if, latest_what_ifs, what_if
from panel.schema import tables
from panel.sessions import sync_engine
from panel.settings import Settings
from reconcile.run import RunResult, run_full
from reconcile.run_context import Reconciler
from reconcile.what_if import Tried, try_policy
from tests.support.databases import Database, Databases
from tests.support.fleets.hoster import WIDE, Hoster, versions
from tests.support.waiting import wait_until
from worker import tasks

ITS_OWN = {"runs", "leases"}
"""The run's row, and who holds the lease since when."""
EVERYTHING_ELSE = tuple(table.name for table in tables.metadata.sorted_tables if table.name not in ITS_OWN)

HELD = {Kind.ORPHAN: Handling.HOLD}
SETTINGS = Settings(_env_file=None, repair_policy={"orphan": "hold"})
OLGA = Actor("api:olga", "operate")


@pytest.fixture(scope="module")
def fleet(databases: Databases) -> Iterator[Database]:
    """The database of all tests here."""
    made = databases.clone()
    yield made
    databases.drop(made)


@pytest.fixture(scope="module")
def hoster(fleet: Database) -> Iterator[Hoster]:
    """Twelve machines. Two lost their order and their guest, and the policy holds orphans. One was switched off."""
    engine = sync_engine(fleet.app_url, "panel-sync test", pool_size=4)
    made = Hoster(engine)
    made.open()
    first, second, third, *_ = made.sell(12)
    made.full(3)
    for order_id in (first, second):
        made.forget(order_id)
        made.cluster.guests.pop(made.vmids[order_id])
    made._runs(held, 4)
    made.flip(third)
    assert made.count("holds", "decision IS NULL AND scope = 'class:orphan'") == 1
    yield made
    engine.dispose()


def held(reconciler: Reconciler, trigger: str) -> RunResult:
    return run_full(replace(reconciler, handling=HELD), trigger=trigger)


def tried(hoster: Hoster, handling: dict[Kind, Handling], **changes: Any) -> Tried:
    """A what-if, once the turn of the run before has ended."""
    found: list[Tried] = []

    def one(reconciler: Reconciler, trigger: str) -> RunResult:
        del trigger
        found.append(try_policy(replace(reconciler, handling=HELD, **changes), "orphan=repair", handling))
        return found[-1].result

    hoster._runs(one, 1)
    return found[-1]


def test_it_shows_the_orphans_that_hold_today_and_changes_nothing(hoster: Hoster) -> None:
    before = versions(hoster.engine, EVERYTHING_ELSE)
    first = tried(hoster, {}).outcome
    assert first is not None
    assert first.moved == [Moved("orphan", "held", "applied", 2)]
    assert (first.total.now.held, first.total.then.held) == (2, 0)
    assert {(one.subject.partition(":")[0], one.kind) for one in first.matter[:2]} == {("vps", "orphan")}
    assert all(one.name and one.user_id and one.clusters == ["main"] for one in first.matter[:2])
    assert tried(hoster, {}).outcome == first, "ten what-ifs show the same as one"
    assert versions(hoster.engine, EVERYTHING_ELSE) == before, "records, proofs, holds, findings, approvals, duties"
    assert hoster.count("vps", "deleted_at IS NULL") == 12


def test_the_limits_hold_under_another_policy_too(hoster: Hoster) -> None:
    outcome = tried(hoster, {}, budget=replace(WIDE, deletes_run=1)).outcome
    assert outcome is not None
    assert outcome.moved == []
    assert outcome.held == [HeldThen("deletes", "2 deletes in one run, the limit is 1", 2, 0)]


def test_it_is_marked_in_the_run_log_and_is_no_run_to_rely_on(hoster: Hoster) -> None:
    last = hoster.count("runs", "kind = 'full' AND state = 'done'")
    run_id = tried(hoster, {}).result.run_id
    assert hoster.count("runs", f"id = {run_id} AND kind = 'plan' AND trigger = 'what-if orphan=repair'") == 1
    assert hoster.count("runs", "kind = 'full' AND state = 'done'") == last
    with pytest.raises(ValueError, match="dry run"):
        run_full(hoster.reconciler(), trigger="test", under={})


@pytest.fixture
def worker(hoster: Hoster, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A worker's process: its database, its settings, and the sources that it may ask."""
    monkeypatch.setattr(tasks, "engine", lambda: hoster.engine)
    monkeypatch.setattr(tasks, "get_settings", lambda: SETTINGS)
    monkeypatch.setattr(tasks, "reconciler", lambda *_, **__: replace(hoster.reconciler(), handling=HELD))
    monkeypatch.setattr(tasks, "BUSY_RETRY_S", 0)
    with hoster.engine.begin() as connection:
        connection.execute(text("DELETE FROM what_ifs"))
        connection.execute(text("DELETE FROM task_requests"))
    return hoster.engine


def asked(engine: Engine, **policy: str) -> WhatIf:
    with engine.begin() as connection:
        return runs.ask_what_if(connection, OLGA, policy or {"orphan": "repair"}).result


def read(engine: Engine, id_: int) -> WhatIf:
    with engine.begin() as connection:
        return what_if(connection, id_)


def test_of_two_that_ask_at_once_one_is_refused(worker: Engine) -> None:
    refused: list[str] = []

    def second_asks() -> None:
        with pytest.raises(OperatorError) as error, worker.begin() as connection:
            ask_what_if(connection, {"orphan": "ignore"}, "api:oscar")
        refused.append(error.value.fault)

    second = threading.Thread(target=second_asks)
    with worker.connect() as first:
        ask_what_if(first, {"orphan": "repair"}, "api:olga")
        second.start()
        wait_until(lambda: not second.is_alive() or waits_for_a_lock(worker), what="the second one waits")
        keep = first.commit if second.is_alive() else first.rollback
        keep()
    second.join(60)
    assert refused == ["conflict"]
    with worker.begin() as connection:
        connection.execute(text("DELETE FROM what_ifs"))


def waits_for_a_lock(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(
            connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"))
        )


def test_a_worker_makes_what_an_operator_asked_for(worker: Engine, hoster: Hoster) -> None:
    one = asked(worker)
    assert (one.state, one.asked_by, one.policy, one.outcome) == ("waiting", "api:olga", {"orphan": "repair"}, None)
    assert hoster.count("task_requests", f"task = 'reconcile.what_if' AND subject = '{one.id}'") == 1
    with pytest.raises(OperatorError, match=f"what-if {one.id} is being made") as refused:
        asked(worker, orphan="ignore")
    assert refused.value.fault == "conflict"
    kept = tuple(table for table in EVERYTHING_ELSE if table != "what_ifs")
    before = versions(worker, kept)
    tasks.what_if.apply(args=(str(one.id),)).get()
    assert versions(worker, kept) == before, "no lane counts it, and nothing is written but its outcome"
    made = read(worker, one.id)
    assert made.state == "done"
    assert made.outcome is not None
    assert made.outcome.moved == [Moved("orphan", "held", "applied", 2)]
    assert hoster.count("runs", f"id = {made.run_id} AND kind = 'plan'") == 1
    assert tasks.what_if.apply(args=(str(one.id),)).get() == "there is an outcome already"
    assert read(worker, one.id) == made
    second = asked(worker, orphan="ignore")
    with worker.begin() as connection:
        assert [found.id for found in latest_what_ifs(connection)] == [second.id, one.id]


def test_it_waits_for_the_run_under_way(worker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = list[str](), try_policy

    def busy_at_first(*arguments: Any) -> Tried:
        calls.append("asked")
        busy = Tried(RunResult(None, "busy", "another run is under way"), None)
        return busy if len(calls) < 3 else real(*arguments)

    monkeypatch.setattr(tasks, "try_policy", busy_at_first)
    one = asked(worker)
    tasks.what_if.apply(args=(str(one.id),)).get()
    assert (len(calls), read(worker, one.id).state) == (3, "done")


def test_it_says_why_it_was_not_made(worker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    one = asked(worker)
    with worker.begin() as connection:
        pause(connection, "all", "moving", timedelta(hours=1), "ann")
    tasks.what_if.apply(args=(str(one.id),)).get()
    with worker.begin() as connection:
        connection.execute(text("DELETE FROM pauses"))
    assert "moving" in (read(worker, one.id).problem or "")

    def broken(*_: object, **__: object) -> Reconciler:
        raise RuntimeError("a secret")

    two = asked(worker)
    monkeypatch.setattr(tasks, "reconciler", broken)
    assert tasks.what_if.apply(args=(str(two.id),)).state == "FAILURE"
    failed = read(worker, two.id)
    assert (failed.state, failed.problem) == ("failed", "the run failed (RuntimeError); the worker's log says more")


def test_one_that_no_worker_takes_is_lost_and_blocks_nobody(worker: Engine, fleet: Database) -> None:
    one = asked(worker)
    owner = sync_engine(fleet.owner_url, "panel-sync test owner")
    with owner.begin() as connection:
        connection.execute(text("UPDATE what_ifs SET asked_at = asked_at - interval '31 minutes'"))
    owner.dispose()
    lost = read(worker, one.id)
    assert (lost.state, lost.problem) == ("failed", LOST)
    assert asked(worker).state == "waiting"
    with pytest.raises(OperatorError, match="no what-if"):
        read(worker, one.id + 1000)
