"""The service level: the numbers of the metric, what is open, and a day and a month that are counted once an hour."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import Connection, Engine, event, text
from structlog.testing import capture_logs

from panel.operators.metrics import metrics
from panel.operators.service_levels import (
    COUNTED,
    DAY,
    MONTH,
    Mended,
    ServiceLevel,
    count_levels,
    service_levels,
    share_within,
)
from panel.settings import load_settings
from tests.support.databases import Database
from tests.support.waiting import wait_until
from worker import tasks

WITHIN_S = 900.0

REPAIR = """
WITH lane AS (
  INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state) VALUES (nextval('vps_id_seq'), 1, 1, 'live')
  RETURNING vps_id)
INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, result, reason, evidence, before, after,
  run_id, epoch, accepted_at, applied_at, publish_at)
SELECT 'repair', 'update', lane.vps_id, 1, 'orders', '{}', 'applied', 'r', 'because',
  jsonb_strip_nulls(jsonb_build_object('kind', CAST(:kind AS text),
    'since', at - make_interval(secs => CAST(:lasted AS float8)))), '{}', '{}', run, 1, at, at, NULL
FROM lane, (SELECT statement_timestamp() - make_interval(hours => :hours) AS at) t,
  (SELECT max(id) AS run FROM runs) r
"""


def mended(engine: Engine, kind: str, *lasted: float | None, hours: int = 1) -> None:
    """Differences that runs mended so many hours ago, after so many seconds; None: nobody knows after how many."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO runs (kind, trigger, epoch, state) VALUES ('fast', 't', 1, 'running')"))
        for seconds in lasted:
            connection.execute(text(REPAIR), {"kind": kind, "lasted": seconds, "hours": hours})


def full_run(engine: Engine, counts: str) -> None:
    """A full run that ended with these counts."""
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO runs (kind, trigger, epoch, state, finished_at, counts) VALUES ('full', 't', 1, 'done',"
                 " clock_timestamp(), CAST(:counts AS jsonb))"), {"counts": counts},
        )  # fmt: skip


def levels(engine: Engine) -> dict[str, ServiceLevel]:
    with engine.connect() as connection:
        return {level.kind: level for level in service_levels(connection, WITHIN_S).classes}


def counted(engine: Engine) -> dict[str, ServiceLevel]:
    """The levels once the hour is over."""
    for window in COUNTED:
        with engine.begin() as connection:
            count_levels(connection, window, WITHIN_S)
    return levels(engine)


def day_of(level: ServiceLevel) -> Mended:
    assert level.day is not None
    return level.day


def test_a_look_reads_nothing_of_the_journal(engine: Engine) -> None:
    """After an incident a day has so many repairs that no page could count them."""
    mended(engine, "missed-status", 10)
    counted(engine)
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        assert levels(engine)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert not [statement for statement in statements if "operations" in statement]


def test_the_last_day_is_what_the_metric_says(engine: Engine) -> None:
    mended(engine, "missed-status", 10, 20, 30, 2000)
    mended(engine, "missed-status", 5000, hours=30)
    mended(engine, "plan", None)
    found = counted(engine)
    day = day_of(found["missed-status"])
    assert (day.mended, day.timed, day.within, day.share) == (4, 4, 3, 0.75)
    assert day.longest_s == pytest.approx(2000)
    assert found["plan"].day == Mended(1, 0, 0, WITHIN_S, None, None, None, None), "nobody knows since when"
    with engine.connect() as connection:
        repairs = {one["kind"]: one for one in metrics(connection)["repairs"]}
    told = repairs["missed-status"]
    assert (told["day"], told["hour"]) == (4, 0)
    assert (told["median_s"], told["p95_s"], told["longest_s"]) == (day.median_s, day.p95_s, day.longest_s)


def test_a_month_is_counted_anew_and_not_added_to(engine: Engine) -> None:
    mended(engine, "missed-delete", 800, hours=29 * 24)
    mended(engine, "missed-delete", 1000, hours=2)
    mended(engine, "orphan", 1, hours=31 * 24)
    assert levels(engine) == {}, "not counted yet"
    counted(engine)
    found = counted(engine)
    assert found.keys() == {"missed-delete"}
    month = found["missed-delete"].month
    assert month is not None
    assert day_of(found["missed-delete"]).mended == 1
    assert (month.mended, month.within, month.share) == (2, 1, 0.5)
    assert month.median_s == pytest.approx(900)


def test_the_hourly_task_counts_it(engine: Engine, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    mended(engine, "missed-create", 10)
    settings = load_settings(_env_file=None, database_url=database.app_url, mend_within_s=5)
    monkeypatch.setattr(tasks, "engine", lambda: engine)
    monkeypatch.setattr(tasks, "get_settings", lambda: settings)
    tasks.maintenance_prune()
    level = levels(engine)["missed-create"]
    for stretch in (level.day, level.month):
        assert stretch is not None
        assert (stretch.mended, stretch.within, stretch.within_s) == (1, 0, 5)


def stopped_by_postgresql(connection: Connection, _window: timedelta, _within_s: float) -> None:
    connection.execute(text("SET LOCAL statement_timeout = 1"))
    connection.execute(text("SELECT pg_sleep(600)"))


def stopped_by_celery(connection: Connection, _window: timedelta, _within_s: float) -> None:
    """The task's time is up between two statements."""
    connection.execute(text("SELECT 1"))
    raise SoftTimeLimitExceeded


def stopped_in_a_statement(connection: Connection, _window: timedelta, _within_s: float) -> None:
    """The task's time is up while PostgreSQL counts. Celery tells a task by an exception out of a signal."""
    pid, main = connection.scalar(text("SELECT pg_backend_pid()")), threading.main_thread().ident
    assert main is not None
    counts = text("SELECT 1 FROM pg_stat_activity WHERE pid = :pid AND wait_event = 'PgSleep'")

    def tell() -> None:
        with connection.engine.connect() as other:
            try:
                wait_until(lambda: other.scalar(counts, {"pid": pid}), "the count to be under way")
                signal.pthread_kill(main, signal.SIGUSR1)
            finally:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})  # else it would count on

    def raise_it(*_: object) -> None:
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGUSR1, raise_it)
    teller = threading.Thread(target=tell)
    teller.start()
    try:
        connection.execute(text("SELECT pg_sleep(600)"))
    finally:
        teller.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("count", [stopped_by_postgresql, stopped_by_celery, stopped_in_a_statement])
def test_a_count_that_takes_too_long_stops_no_prune(
    engine: Engine,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    count: Callable[[Connection, timedelta, float], None],
) -> None:
    settings = load_settings(_env_file=None, database_url=database.app_url)
    monkeypatch.setattr(tasks, "engine", lambda: engine)
    monkeypatch.setattr(tasks, "get_settings", lambda: settings)
    mended(engine, "missed-create", 10)

    def month_fails(connection: Connection, window: timedelta, within_s: float) -> None:
        (count_levels if window == DAY else count)(connection, window, within_s)

    monkeypatch.setattr(tasks, "count_levels", month_fails)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO idempotency_keys (scope, key, body_hash, created_at)"
                " VALUES ('main-site', 'old', 'h', clock_timestamp() - interval '3 days')"
            )
        )
    with capture_logs() as told:
        assert tasks.maintenance_prune() == "1 idempotency_keys"
    assert [line["event"] for line in told if line["log_level"] == "error"] == ["service_levels_not_counted"]
    level = levels(engine)["missed-create"]
    assert (day_of(level).mended, level.month) == (1, None), "the day is counted all the same"


def test_a_day_on_which_nothing_was_mended_is_counted_too(engine: Engine) -> None:
    mended(engine, "missed-create", 10, hours=30)
    counted(engine)
    day = day_of(counted(engine)["missed-create"])
    assert (day.mended, day.timed, day.within, day.share) == (0, 0, 0, None)
    with engine.connect() as connection:
        shown = service_levels(connection, WITHIN_S)
    assert shown.day_counted_at is not None
    assert shown.counted_at is not None


def test_a_count_may_take_longer_than_other_statements(engine: Engine) -> None:
    with engine.begin() as connection:
        before = connection.scalar(text("SHOW statement_timeout"))
        count_levels(connection, MONTH, WITHIN_S)
        assert connection.scalar(text("SHOW statement_timeout")) == "35s"
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == before, "of this count alone"


def test_what_is_open_and_late_counts_as_missed(engine: Engine) -> None:
    full_run(engine, '{"open": {"orphan": 9}, "open_late": {}, "open_since": {}}')
    mended(engine, "missed-delete", 10, 20)
    since = "2026-11-01T10:00:00+00:00"
    full_run(engine, '{"open": {"missed-delete": 3, "orphan": 1}, "open_late": {"missed-delete": 2},'
             f' "open_since": {{"missed-delete": "{since}"}}}}')  # fmt: skip
    found = counted(engine)
    one = found["missed-delete"]
    assert (one.open, one.late, one.open_since and one.open_since.isoformat()) == (3, 2, since)
    assert day_of(one).share == 0.5, "two in time, two are late already"
    assert (found["orphan"].open, found["orphan"].open_since, found["orphan"].day) == (1, None, None)


def test_a_panel_that_ran_before_this_version(engine: Engine) -> None:
    full_run(engine, "{}")
    assert levels(engine) == {}


@pytest.mark.parametrize(
    ("within", "timed", "late", "share"), [(0, 0, 0, None), (0, 0, 1, 0.0), (3, 3, 0, 1.0), (3, 4, 2, 0.5)]
)
def test_the_share(within: int, timed: int, late: int, share: float | None) -> None:
    assert share_within(within, timed, late) == share
