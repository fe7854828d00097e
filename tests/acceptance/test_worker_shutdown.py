"""A worker with calls in hand: told to end, it hands back what it has not done; it outlives the loss of Redis."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from tests.support.databases import Database
from tests.support.fleets.world import add_user
from tests.support.live_panel import SYNC_PATH_PARTS, LivePanel, live_panel
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.acceptance]

CALLS = 60
ALONE = 40  # fewer than the messages that the relay lets wait


@pytest.fixture
def panel(database: Database, tmp_path: Path) -> Iterator[LivePanel]:
    with live_panel(database, tmp_path, parts=SYNC_PATH_PARTS) as running:
        add_user(running.engine, 5)
        yield running


def _states(panel: LivePanel) -> list[str]:
    return [row["state"] for row in panel.rows("SELECT state FROM operations ORDER BY id")]


PLAN = {"user_id": 5, "cpu": 1, "ram": 1024, "disk": 10, "os": "Debian 13", "hypervisor": "kvm"}


def test_a_worker_that_ends_hands_back_what_it_has_not_done(panel: LivePanel) -> None:
    made = [panel.sync("create", PLAN | {"name": f"vps-{n}"}).raise_for_status().json() for n in range(4)]
    ids = [answer["vps"]["id"] for answer in made]
    wait_until(lambda: _states(panel) == ["applied"] * 4, "the fleet is written")
    worker = panel.process("worker-sync")
    worker.pause()
    for number in range(CALLS):
        status = ("running", "stopped")[number % 2]
        panel.sync("update", {"id": ids[number % 4], "status": status}).raise_for_status()
        if number < ALONE:  # each in a message of its own, so that some are left when the tasks in hand are done
            wait_until(lambda: not panel.rows("SELECT 1 FROM operations WHERE publishes = 0"), "its message")
    with panel.engine.connect() as connection:
        # The VPS queues are held, so that tasks are under way and others are fetched when the signal comes.
        connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT vps_id FROM vps_queues ORDER BY vps_id FOR UPDATE"))
        worker.resume()
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: panel.rows(waiting), "a task waits for its queue")
        worker.send_signal(signal.SIGTERM)
        # Not before it has heard the signal: a worker that has not goes on through all that waits.
        wait_until(lambda: b"Soft Shutdown" in worker.log_path.read_bytes(), "the worker to say that it ends")
        connection.rollback()
        assert worker.wait_exit(PATIENCE_S)
    handed_back = _states(panel).count("queued")
    assert handed_back, "else there was nothing to hand back"
    assert set(_states(panel)) == {"applied", "queued"}
    panel.restart("worker-sync")
    wait_until(lambda: set(_states(panel)) == {"applied"}, "the next worker does the rest")
    rows = panel.rows("SELECT vps_id, seq FROM operations ORDER BY applied_at, seq")
    for vps_id in ids:
        order = [row["seq"] for row in rows if row["vps_id"] == vps_id]
        assert order == sorted(order), "in the order of their acceptance"
    assert len(_states(panel)) == CALLS + 4


def _one_in_hand(panel: LivePanel, connection: Connection) -> None:
    """A call whose queue is held by ``connection``, under way in the worker; it waits in Redis for another one."""
    made = [panel.sync("create", PLAN | {"name": f"vps-{n}"}).raise_for_status().json() for n in range(4)]
    wait_until(lambda: _states(panel) == ["applied"] * 4, "the fleet is written")
    worker = panel.process("worker-sync")
    worker.pause()
    panel.sync("update", {"id": made[0]["vps"]["id"], "status": "stopped"}).raise_for_status()
    connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
    connection.execute(text("SELECT vps_id FROM vps_queues ORDER BY vps_id FOR UPDATE"))
    worker.resume()
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    wait_until(lambda: panel.rows(waiting), "a task waits for its queue")


def _redis_killed(panel: LivePanel) -> None:
    worker = panel.process("worker-sync")
    seen = len(worker.log_path.read_bytes())
    panel.redis.kill()
    lost = b"Connection to broker lost"
    wait_until(lambda: lost in worker.log_path.read_bytes()[seen:], "the worker to miss Redis")


@pytest.mark.parametrize("ends", ["while Redis is away", "when Redis is back"])
def test_a_worker_outlives_redis_with_a_call_in_hand(panel: LivePanel, ends: str) -> None:
    """It cannot give back what it holds over a connection that is gone, and need not: the journal rings again."""
    worker = panel.process("worker-sync")
    pid = worker.pid
    with panel.engine.connect() as connection:
        _one_in_hand(panel, connection)
        _redis_killed(panel)
        if ends == "while Redis is away":
            connection.rollback()
        seen = len(worker.log_path.read_bytes())
        panel.redis.start()
        wait_until(lambda: b"Connected to" in worker.log_path.read_bytes()[seen:], "the worker to be back")
        connection.rollback()
    wait_until(lambda: set(_states(panel)) == {"applied"}, "the same worker does the rest")
    panel.sync("create", PLAN | {"name": "afterwards"}).raise_for_status()
    wait_until(lambda: set(_states(panel)) == {"applied"}, "it takes calls as ever")
    assert (worker.pid, worker.running) == (pid, True)
    assert b"Unrecoverable" not in worker.log_path.read_bytes()


def test_a_worker_without_redis_ends_with_a_call_in_hand(panel: LivePanel) -> None:
    with panel.engine.connect() as connection:
        _one_in_hand(panel, connection)
        _redis_killed(panel)
        worker = panel.process("worker-sync")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait_exit(PATIENCE_S)
        connection.rollback()
    assert _states(panel) == ["applied"] * 4 + ["queued"], "for the next worker"
