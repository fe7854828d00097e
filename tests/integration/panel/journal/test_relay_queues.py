"""What Redis or PostgreSQL refuses of graphs, events and power actions stops no call and no run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from cli.health.checks import Verdict, duty_checks
from panel.journal.accept import Acceptor
from panel.journal.publish import SIDE_LIMIT, CeleryPublisher, producer_app
from panel.journal.relay import AGAIN_CHECK_S, Relay
from panel.runs.run_requests import request_task
from panel.runs.schedule_duties import list_duties
from runtime.servers.embedded_redis import EmbeddedRedis
from tests.integration.panel.conftest import accepted, count
from tests.support.calls import create_call
from tests.support.databases import Database
from tests.support.fleets.world import operation
from tests.support.redis_rights import documented, with_user
from tests.support.stand_ins.webhook_receiver import note_event

ALL = ("sync", "reconcile", "statistics", "webhooks")


def lengths(server: EmbeddedRedis) -> dict[str, object]:
    with redis.Redis.from_url(server.url, socket_timeout=60) as client:
        return {queue: client.llen(queue) for queue in ALL if client.llen(queue)}


@pytest.fixture
def limited(redis_server: EmbeddedRedis) -> Iterator[EmbeddedRedis]:
    """A Redis without the panel's user afterwards."""
    yield redis_server
    with redis.Redis.from_url(redis_server.url, socket_timeout=60) as client:
        client.execute_command("ACL", "DELUSER", "panel")


class Running:
    """A relay whose turns the test makes, on a real Redis."""

    def __init__(self, database: Database, url: str) -> None:
        self.now = 1000.0
        self.app = producer_app(url)
        self.relay = Relay(database.app_url, CeleryPublisher(self.app), webhook=True, clock=lambda: self.now)

    def turn(self) -> None:
        self.now += AGAIN_CHECK_S
        self.relay.relay_once()

    def health(self) -> str | None:
        return self.relay._outbox.health

    def stop(self) -> None:
        self.relay.stop()
        self.app.close()


def ask_for(panel: Engine, *tasks: tuple[str, str]) -> None:
    with panel.begin() as connection:
        for task, subject in tasks:
            request_task(connection, task, subject)


@pytest.mark.parametrize("lacking", ["statistics", "webhooks"])
async def test_a_right_that_is_missing_for_one_queue_stops_no_other(
    acceptor: Acceptor, panel: Engine, database: Database, limited: EmbeddedRedis, lacking: str
) -> None:
    rights = [rule for rule in documented() if rule != f"~{lacking}*"]
    running = Running(database, with_user(limited.url, rights))
    running.turn()
    try:
        with capture_logs() as logs:
            for number in (1, 2, 3):
                created = await accepted(acceptor, create_call(name=f"vps-{number}"))
                ask_for(panel, ("statistics.read", str(number)), ("reconcile.run", f"r{number}"))
                if number == 1:
                    note_event(panel)
                running.turn()
                assert operation(panel, created.operation_id)["publishes"] == 1
                assert count(panel, "task_requests") == 0, "nothing comes back at once to fail again"
        there = {"sync": 3, "reconcile": 3, "statistics": 3, "webhooks": 1}
        assert lengths(limited) == {queue: there[queue] for queue in ALL if queue != lacking}
        assert running.health() == f"publishing to {lacking} fails: NOPERM"
        with panel.connect() as connection:
            [check] = [check for check in duty_checks(list_duties(connection)) if check.subject == "relay"]
        assert check.verdict is Verdict.PROBLEM
        assert check.seen.startswith("was done ")
        assert check.seen.endswith(f"last failed with NOPERM for {lacking}")
        failures = [line for line in logs if line["event"] == "publish_failed"]
        assert [line["queue"] for line in failures] == [lacking], "told once"

        with_user(limited.url, documented())
        running.turn()
        assert running.health() is None, "noticed although no message came"
        with panel.connect() as connection:
            checks = duty_checks(list_duties(connection))
        assert [check.verdict for check in checks if check.subject == "relay"] == [Verdict.OK]
    finally:
        running.stop()


async def test_where_nobody_takes_them_messages_do_not_fill_redis(
    acceptor: Acceptor, panel: Engine, database: Database, redis_server: EmbeddedRedis
) -> None:
    with redis.Redis.from_url(redis_server.url, socket_timeout=60) as client:
        client.rpush("statistics", *["x"] * (SIDE_LIMIT - 1))
        client.rpush("webhooks", *["x"] * SIDE_LIMIT)
    running = Running(database, redis_server.url)
    running.turn()
    try:
        note_event(panel)
        for subject in ("1", "2", "3"):
            await accepted(acceptor, create_call(name=f"vps-{subject}"))
            ask_for(panel, ("statistics.read", subject))
            running.turn()
        assert lengths(redis_server) == {"sync": 3, "statistics": SIDE_LIMIT, "webhooks": SIDE_LIMIT}
        assert (running.health(), count(panel, "task_requests")) == (None, 0)
    finally:
        running.stop()


async def test_a_worker_that_holds_the_row_of_the_main_site_delays_no_call(
    acceptor: Acceptor, panel: Engine, database: Database, redis_server: EmbeddedRedis
) -> None:
    running = Running(database, redis_server.url)
    running.turn()
    note_event(panel)
    await accepted(acceptor, create_call())
    try:
        with panel.begin() as worker, capture_logs() as logs:
            worker.execute(text("SELECT FROM webhook_endpoint FOR UPDATE"))
            running.turn()
        assert lengths(redis_server) == {"sync": 1}
        assert "relay_part_failed" not in [line["event"] for line in logs], "it did not wait for the row"
        running.turn()
        assert lengths(redis_server) == {"sync": 1, "webhooks": 1}
    finally:
        running.stop()


@pytest.mark.parametrize(("table", "part"), [("webhook_endpoint", "events"), ("power_actions", "power actions")])
async def test_a_table_that_cannot_be_written_stops_no_call_and_is_told(
    acceptor: Acceptor,
    panel: Engine,
    owner: Engine,
    database: Database,
    redis_server: EmbeddedRedis,
    table: str,
    part: str,
) -> None:
    running = Running(database, redis_server.url)
    running.turn()
    note_event(panel)
    with owner.begin() as connection:
        connection.execute(text(f"REVOKE UPDATE ON {table} FROM panel_app"))
    await accepted(acceptor, create_call())
    try:
        with capture_logs() as logs:
            running.turn()
            running.turn()
        assert lengths(redis_server)["sync"] == 1
        told = [(line["part"], line["code"]) for line in logs if line["event"] == "relay_part_failed"]
        assert told == [(part, "42501")], "once"
        problem = "SELECT problem FROM duties WHERE name = 'relay' AND failed_at >= done_at"
        with owner.begin() as connection:
            assert connection.scalar(text(problem)) == f"{part}: 42501"
            connection.execute(text(f"GRANT UPDATE ON {table} TO panel_app"))
        running.turn()
        assert running.relay._parts_fault == ""
    finally:
        running.stop()
