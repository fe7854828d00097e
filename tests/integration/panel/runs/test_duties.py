"""What must happen again and again: taken once, late after three intervals, told by alarm, doctor and metrics."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import Connection, Engine, text

from cli.health.checks import Verdict, duty_checks
from panel.journal.relay import Relay
from panel.operators.metrics import metrics
from panel.runs import schedule_duties
from tests.support.databases import Database

FAST = "reconcile.fast"


class NoPublisher:
    def publish(self, bells: object) -> None:
        raise AssertionError(bells)

    def waiting(self, queue: str) -> int:
        del queue
        return 0


def age(engine: Engine, **seconds: float) -> None:
    """Let its moments be so many seconds ago."""
    changes = ", ".join(f"{name} = clock_timestamp() - make_interval(secs => {ago})" for name, ago in seconds.items())
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE duties SET {changes} WHERE name = '{FAST}'"))


def ask(connection: Connection, name: str, every_s: float) -> None:
    """As beat does, which has a driver's connection of its own."""
    connection.exec_driver_sql(schedule_duties.ASK, {"name": name, "every_s": every_s})


def asked(engine: Engine, times: int = 1) -> None:
    for _ in range(times):
        with engine.begin() as connection:
            ask(connection, FAST, 15.0)


def begun(engine: Engine) -> bool:
    with engine.begin() as connection:
        return schedule_duties.begin(connection, FAST)


def done(engine: Engine) -> None:
    with engine.begin() as connection:
        schedule_duties.note_done(connection, FAST)


def the_duty(engine: Engine) -> schedule_duties.Duty:
    with engine.connect() as connection:
        [duty] = schedule_duties.list_duties(connection)
        return duty


def alarms(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(
            connection.scalars(text("SELECT reason FROM findings WHERE class = 'lane-late' AND resolved_at IS NULL"))
        )


def told(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        schedule_duties.raise_late_alarms(connection)
    return alarms(engine)


def test_however_many_messages_wait_the_work_is_done_once(engine: Engine) -> None:
    """Nobody took any for a while, and now all of them come at once."""
    asked(engine, 50)
    assert [begun(engine) for _ in range(50)] == [True, *[False] * 49]
    asked(engine)
    assert begun(engine), "asked for again"


def test_a_message_of_a_beat_that_asks_for_nothing_is_followed(engine: Engine) -> None:
    assert begun(engine)
    assert begun(engine)


def done_s(reason: str) -> int:
    """How many seconds ago the lane was done, as a sentence says."""
    found = re.match(r"the lane fast was done (\d+) s ago", reason)
    assert found is not None, reason
    return int(found[1])


@pytest.mark.parametrize(
    ("moments", "cause"),
    [
        ({"asked_at": 100, "began_at": 100, "done_at": 99, "since": 1000}, "beat does not ask for it"),
        ({"asked_at": 3, "began_at": 100, "done_at": 99, "since": 1000}, "no worker begins it"),
        ({"asked_at": 3, "began_at": 2, "done_at": 99, "since": 1000}, "a worker begins it but does not finish"),
    ],
    ids=["beat", "workers", "the work"],
)
def test_a_lane_that_was_not_done_for_three_intervals_is_an_alarm(
    engine: Engine, moments: dict[str, float], cause: str
) -> None:
    asked(engine)
    begun(engine)
    done(engine)
    assert told(engine) == []
    age(engine, **moments)
    [reason] = told(engine)
    assert done_s(reason) >= 99, "time goes on meanwhile"
    assert ", and is due every 15 s" in reason
    assert cause in reason
    assert len(told(engine)) == 1, "still one"
    [check] = duty_checks([the_duty(engine)])
    assert (check.verdict, check.subject) == (Verdict.PROBLEM, "lane fast")
    with engine.connect() as connection:
        [lane] = metrics(connection)["lanes"]
    assert (lane["lane"], lane["late"]) == ("fast", True)
    assert lane["last_done_s"] >= 99
    done(engine)
    assert told(engine) == [], "it resolves by itself"


def test_what_was_never_done_is_late_too_and_a_panel_that_was_off_is_not(engine: Engine) -> None:
    asked(engine)
    assert not the_duty(engine).late
    age(engine, since=61, asked_at=1)
    assert the_duty(engine).late
    age(engine, since=10_000, asked_at=9_000, done_at=9_000)
    asked(engine)
    assert not the_duty(engine).late, "beat begins anew, and the lane has its time again"


def test_a_failure_is_told_beside_the_last_success(engine: Engine) -> None:
    asked(engine)
    done(engine)
    with engine.begin() as connection:
        schedule_duties.note_failed(connection, FAST, "OperationalError")
    duty = the_duty(engine)
    assert duty.failing
    assert done_s(f"the lane fast {duty.last_outcome}") >= 0
    assert duty.last_outcome.endswith(" s ago, last failed with OperationalError")
    done(engine)
    assert not the_duty(engine).failing


def test_the_relay_raises_the_alarm_without_redis_beat_and_workers(engine: Engine, database: Database) -> None:
    now = [0.0]
    relay = Relay(database.app_url, NoPublisher(), clock=lambda: now[0])
    try:
        asked(engine)
        age(engine, since=1000, asked_at=1, done_at=900)
        now[0] = 16.0
        relay._check_lanes()
    finally:
        relay.stop()
    assert len(alarms(engine)) == 1


def test_what_only_an_older_version_did_is_nobodys_duty(engine: Engine) -> None:
    """Its row stays after the update, and nobody does it ever again."""
    with engine.begin() as connection:
        ask(connection, "sync.dispatch_pending", 30.0)
        connection.execute(text("UPDATE duties SET since = since - interval '1 day'"))
    assert told(engine) == []
    with engine.connect() as connection:
        assert schedule_duties.list_duties(connection) == []
