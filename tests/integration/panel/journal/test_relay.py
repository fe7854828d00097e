"""What is journaled is published until it is applied: without Redis' help, not too often, by one relay at a time."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

import psycopg
import pytest
import redis
from sqlalchemy import Engine, text

from panel.journal import relay as relay_module
from panel.journal.accept import Acceptor
from panel.journal.publish import CeleryPublisher, Doorbell, producer_app
from panel.journal.relay import (
    AGAIN_CHECK_S,
    BATCH,
    REPUBLISH_LIMIT,
    REPUBLISH_WINDOW_S,
    SET,
    STALLED_S,
    Relay,
)
from panel.journal.writer import apply_operation
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis
from tests.integration.panel.conftest import accepted, database_time
from tests.support.calls import create_call, update_call
from tests.support.databases import Database
from tests.support.fleets.world import operation
from tests.support.waiting import wait_until


@dataclass(slots=True)
class Recorder:
    """A publisher that remembers, and fails while it is told to."""

    bells: list[Doorbell] = field(default_factory=list)
    broken: bool = False
    in_line: int = 0
    rang: threading.Event = field(default_factory=threading.Event)

    def publish(self, bells: Sequence[Doorbell]) -> None:
        if self.broken:
            raise ConnectionError("the broker is away")
        self.bells.extend(bells)
        self.rang.set()

    def waiting(self, queue: str) -> int:
        del queue
        if self.broken:
            raise ConnectionError("the broker is away")
        return self.in_line

    @property
    def rung(self) -> list[int]:
        """The operations that all messages name."""
        return [operation for bell in self.bells for operation in bell.operations]

    def taken(self) -> list[Doorbell]:
        """What was published since the last look."""
        taken, self.bells = self.bells, []
        return taken


@dataclass(slots=True)
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def relay(database: Database, recorder: Recorder, clock: Clock) -> Iterator[Relay]:
    made = Relay(database.app_url, recorder, clock=clock)
    yield made
    made.stop()


def queue_many(panel: Engine, number: int) -> None:
    """That many accepted creates, never published."""
    with panel.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO vps_queues (vps_id, last_seq, queue_state)"
                " SELECT n, 1, 'live' FROM generate_series(1, :n) n"
            ),
            {"n": number},
        )
        connection.execute(
            text(
                "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state)"
                " SELECT 'sync', 'create', n, 1, 'sync', '{}', 'queued' FROM generate_series(1, :n) n"
            ),
            {"n": number},
        )


def make_due(panel: Engine) -> None:
    """As after the wait for another publication."""
    with panel.begin() as connection:
        connection.execute(text("UPDATE operations SET publish_at = clock_timestamp() WHERE state = 'queued'"))


def next_publication(panel: Engine) -> datetime:
    with panel.connect() as connection:
        found = connection.scalar(text("SELECT max(publish_at) FROM operations"))
    assert isinstance(found, datetime)
    return found


async def test_a_journaled_call_is_published_once(acceptor: Acceptor, relay: Relay, recorder: Recorder) -> None:
    created = await accepted(acceptor, create_call())
    assert relay.relay_once() == 1
    assert relay.relay_once() == 0
    assert recorder.bells == [
        Doorbell("sync.apply", created.operation_id, f"op={created.operation_id} vps={created.vps_id} create")
    ]


class TestAgain:
    """Published again only when nothing moves, less and less often."""

    async def test_the_waits_double_up_to_ten_minutes(
        self, acceptor: Acceptor, panel: Engine, relay: Relay, clock: Clock
    ) -> None:
        await accepted(acceptor, create_call())
        for wait_s in (30, 60, 120, 240, 480, 600, 600):
            before = database_time(panel)
            relay.relay_once()
            after, due_at = database_time(panel), next_publication(panel)
            assert due_at - after <= timedelta(seconds=wait_s) <= due_at - before
            make_due(panel)
            clock.now += REPUBLISH_WINDOW_S

    async def test_not_while_the_oldest_operation_keeps_changing(
        self, acceptor: Acceptor, panel: Engine, relay: Relay, recorder: Recorder, clock: Clock
    ) -> None:
        operations = [(await accepted(acceptor, create_call(name=f"vps-{n}"))).operation_id for n in range(4)]
        relay.relay_once()
        recorder.taken()
        for done in operations[:3]:
            # One is applied in each window: the others stand in line behind it.
            apply_operation(panel, done)
            clock.now += REPUBLISH_WINDOW_S * 0.9
            make_due(panel)
            assert relay.relay_once() == 0
        clock.now += REPUBLISH_WINDOW_S
        assert relay.relay_once() == 1
        assert [bell.argument for bell in recorder.taken()] == operations[3:]

    async def test_a_failed_operation_does_not_wait_for_the_others(
        self, acceptor: Acceptor, panel: Engine, relay: Relay, recorder: Recorder
    ) -> None:
        failed = await accepted(acceptor, create_call())
        await accepted(acceptor, create_call(name="other"))
        relay.relay_once()
        recorder.taken()
        with panel.begin() as connection:
            connection.execute(
                text("UPDATE operations SET error = 'x', publish_at = clock_timestamp() WHERE id = :id"),
                {"id": failed.operation_id},
            )
        relay.relay_once()
        assert [bell.argument for bell in recorder.taken()] == [failed.operation_id]

    async def test_what_was_overtaken_is_rung_soon(
        self, acceptor: Acceptor, panel: Engine, relay: Relay, recorder: Recorder, clock: Clock, owner: Engine
    ) -> None:
        lost, later, waiting = [(await accepted(acceptor, create_call(name=f"vps-{n}"))).operation_id for n in range(3)]
        relay.relay_once()
        recorder.taken()
        clock.now += AGAIN_CHECK_S
        assert relay.relay_once() == 0, "all of them stand in line"
        apply_operation(panel, later)
        older = text(
            "UPDATE operations SET accepted_at = accepted_at - interval '11 s', publish_at = publish_at"
            " - interval '11 s' WHERE id = :id"
        )
        with owner.begin() as connection:
            connection.execute(older, {"id": lost})
        clock.now += AGAIN_CHECK_S
        recorder.in_line = REPUBLISH_LIMIT
        assert relay.relay_once() == 0, "its message may be one of the many that the broker holds"
        recorder.in_line = 0
        clock.now += AGAIN_CHECK_S
        assert relay.relay_once() == 1
        assert [bell.argument for bell in recorder.taken()] == [lost]
        clock.now += AGAIN_CHECK_S
        assert relay.relay_once() == 0, "it was rung just now"
        assert operation(panel, waiting)["publishes"] == 1

    def test_nothing_is_rung_again_while_the_broker_holds_many(
        self, panel: Engine, relay: Relay, recorder: Recorder, clock: Clock
    ) -> None:
        """Workers that are slow, or away, would get the same calls again and again, and become slower still."""
        queue_many(panel, REPUBLISH_LIMIT)
        while relay.relay_once():
            pass
        assert len(recorder.rung) == REPUBLISH_LIMIT
        assert [len(bell.operations) for bell in recorder.taken()] == [SET, SET, BATCH - 2 * SET] * 2
        for in_line, again in ((REPUBLISH_LIMIT, 0), (REPUBLISH_LIMIT + 1, 0), (REPUBLISH_LIMIT - 7, 7), (0, BATCH)):
            recorder.in_line = in_line
            make_due(panel)
            clock.now += REPUBLISH_WINDOW_S
            recorder.taken()
            assert relay.relay_once() == again
            assert len(recorder.bells) == again, "each has a message of its own"
            assert relay.relay_once() == 0, "the broker is asked every few seconds"

    async def test_calls_wait_in_postgresql_while_the_broker_holds_many_messages(
        self, acceptor: Acceptor, relay: Relay, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(relay_module, "AHEAD_LIMIT", 1)
        first = await accepted(acceptor, create_call())
        assert relay.relay_once() == 1
        waiting = [(await accepted(acceptor, create_call(name=f"vps-{n}"))).operation_id for n in range(3)]
        recorder.in_line = 1
        assert relay.relay_once() == 0
        recorder.in_line = 0
        assert relay.relay_once() == 3
        assert [bell.argument for bell in recorder.taken()] == [first.operation_id, tuple(waiting)]


class TestBrokerAway:
    """A publication that failed may have arrived all the same: it is simply made again."""

    async def test_everything_is_due_again_within_a_second_or_so(
        self, acceptor: Acceptor, panel: Engine, relay: Relay, recorder: Recorder
    ) -> None:
        created = await accepted(acceptor, create_call())
        await acceptor.accept(create_call(user_id=404))
        recorder.broken = True
        relay.relay_once()
        row = operation(panel, created.operation_id)
        assert (row["state"], row["publishes"]) == ("queued", 0)
        assert next_publication(panel) - database_time(panel) <= timedelta(seconds=1)
        recorder.broken = False
        make_due(panel)
        assert relay.relay_once() == 2
        assert {bell.task for bell in recorder.taken()} == {"sync.apply", "users.import"}

    async def test_redis_stopped_during_calls_loses_nothing(
        self, acceptor: Acceptor, database: Database, redis_server: EmbeddedRedis
    ) -> None:
        app = producer_app(redis_server.url)
        running = Relay(database.app_url, CeleryPublisher(app))
        running.start()
        try:
            before = await accepted(acceptor, create_call())
            wait_until(lambda: named_in(redis_server) == 1, "the first message")
            redis_server.kill()
            ids = [(await accepted(acceptor, update_call(before.vps_id, "running"))).operation_id for _ in range(5)]
            redis_server.start()
            found = 1 + len(ids)
            wait_until(lambda: named_in(redis_server) >= found, "all messages after the restart")
        finally:
            running.stop()
            app.close()


def named_in(server: EmbeddedRedis) -> int:
    """How many operations the messages of the queue name."""
    with redis.Redis.from_url(server.url, socket_timeout=60) as client:
        messages = [json.loads(message) for message in cast("list[bytes]", client.lrange("sync", 0, -1))]
    assert all(message["headers"]["expires"] is None for message in messages), "no clock ends a message"
    named = [json.loads(base64.b64decode(message["body"]))[0][0] for message in messages]
    return sum(1 if isinstance(operations, int) else len(operations) for operations in named)


def test_two_relays_share_the_work_and_double_nothing(panel: Engine, database: Database, clock: Clock) -> None:
    queue_many(panel, 2000)
    recorders, start = [Recorder(), Recorder()], threading.Barrier(2)
    relays = [Relay(database.app_url, recorder, clock=clock) for recorder in recorders]

    def work(one: Relay) -> None:
        start.wait()
        while one.relay_once():
            pass

    threads = [threading.Thread(target=work, args=(one,)) for one in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in relays:
        one.stop()
    published = [operation for recorder in recorders for operation in recorder.rung]
    assert len(published) == len(set(published)) == 2000


async def test_a_commit_wakes_the_relay_without_polling(
    acceptor: Acceptor, relay: Relay, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "POLL_S", 600.0)
    relay.start()
    await accepted(acceptor, create_call())
    assert recorder.rang.wait(120)
    recorder.rang.clear()
    await accepted(acceptor, create_call())
    assert recorder.rang.wait(120)
    relay._stop.set()
    await accepted(acceptor, create_call())  # wakes it, so that it sees that it is to end


async def test_the_relay_outlives_a_restart_of_postgres(
    acceptor: Acceptor, relay: Relay, recorder: Recorder, postgres_server: EmbeddedPostgres
) -> None:
    relay.start()
    await accepted(acceptor, create_call())
    assert recorder.rang.wait(120)
    postgres_server.kill()
    postgres_server.start()
    recorder.rang.clear()
    created = await accepted(acceptor, create_call(name="after"))
    assert recorder.rang.wait(120)
    assert created.operation_id in recorder.rung


class TestLastResort:
    """Whatever happens to its thread, calls go on being accepted: so it goes on, too, and tells how it is."""

    async def test_it_outlives_a_fault_that_nobody_foresaw(
        self, acceptor: Acceptor, database: Database, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        relay = Relay(database.app_url, recorder)
        assert relay.health == "stopped"
        claim = relay._claim

        def fail() -> list[Doorbell]:
            raise TypeError

        monkeypatch.setattr(relay, "_claim", fail)
        relay.start()
        try:
            wait_until(lambda: relay.health == "failing: TypeError", "the fault to be told")
            created = await accepted(acceptor, create_call())
            monkeypatch.setattr(relay, "_claim", claim)
            assert recorder.rang.wait(120)
            assert [bell.argument for bell in recorder.bells] == [created.operation_id]
            wait_until(lambda: relay.health == "ok", "the relay to be well")
        finally:
            relay.stop()
        assert relay.health == "stopped"

    async def test_it_goes_on_when_its_database_takes_writes_again(
        self, acceptor: Acceptor, database: Database, recorder: Recorder
    ) -> None:
        """As after a failover that left its address with the standby for a while."""
        created = await accepted(acceptor, create_call())
        relay = Relay(database.app_url, recorder)
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
            relay.start()
            try:
                wait_until(lambda: relay.health == "database away", "the database to be away")
                admin.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
                assert recorder.rang.wait(120)
            finally:
                relay.stop()
        assert [bell.argument for bell in recorder.bells] == [created.operation_id]

    def test_one_that_hangs_is_stalled(
        self, database: Database, recorder: Recorder, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        relay = Relay(database.app_url, recorder, clock=clock)
        hangs, go_on = threading.Event(), threading.Event()

        def hang(_room: int | None) -> list[Doorbell]:
            hangs.set()
            go_on.wait(120)
            return []

        monkeypatch.setattr(relay, "_claim", hang)
        relay.start()
        try:
            assert hangs.wait(120)
            assert relay.health == "ok"
            clock.now += STALLED_S + 1
            assert relay.health == "stalled"
        finally:
            go_on.set()
            relay.stop()
