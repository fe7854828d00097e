"""The panel under load, what may be done to it, and what must hold while it is done."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import redis
from sqlalchemy.exc import DBAPIError

from lab.chaos import message_faults
from lab.chaos.calls import MarkedCall
from lab.chaos.tcp_proxy import TcpProxy
from runtime.processes.children import descendants
from tests.faults.audit import journal_faults
from tests.faults.load import Load
from tests.support.databases import Database, Databases
from tests.support.live_panel import LivePanel
from tests.support.sockets import owner_of_port
from tests.support.waiting import wait_until

RECOVERED_S = 300.0


@dataclass(slots=True)
class Rig:
    """A panel whose processes, PostgreSQL and Redis are this rig's alone."""

    panel: LivePanel
    databases: Databases
    database: Database
    proxy: TcpProxy
    load: Load
    dice: random.Random

    @contextmanager
    def under(self, fault: str, *, answers: frozenset[int | None] = frozenset({200, 202})) -> Iterator[None]:
        """While the block lasts and until the panel is well again: every answer is one of ``answers`` (None: no answer,
        or none within the callers' patience). Then the journal is exactly what the answers said."""
        began = time.monotonic()
        with self.load.unthrottled():
            yield
        self.wait_well()
        calls = self.load.since(began)
        assert {call.status for call in calls} <= answers, (
            fault,
            [call for call in calls if call.status not in answers],
        )
        refused = [call for call in calls if call.status == 503]
        assert all(int(call.retry_after or 0) >= 1 for call in refused), refused
        assert {call.code for call in refused} <= {"database_away", "overloaded", "outcome_unknown"}
        assert sum(call.operation is not None for call in calls) > 0, (fault, calls)
        wrong = journal_faults(self.panel.engine, self.load)
        assert not wrong, (fault, wrong[:10])

    def wait_well(self) -> None:
        """Until a call made from now on is accepted and applied; what died is started again, as a supervisor does."""
        since = time.monotonic()

        def applied() -> bool:
            self.revive()
            with suppress(DBAPIError):  # a pooled connection that the fault has cut
                return self._applied_since(since)
            return False

        wait_until(applied, "a call made after the fault to be applied", RECOVERED_S)

    def _applied_since(self, since: float) -> bool:
        taken = [call for call in self.load.since(since) if call.operation is not None]
        return bool(taken) and self.state(min(taken, key=lambda call: call.at)) == "applied"

    def state(self, call: MarkedCall) -> str:
        rows = self.panel.rows("SELECT state FROM operations WHERE id = :id", id=call.operation)
        return str(rows[0]["state"]) if rows else "not in the journal"

    def revive(self) -> None:
        """Start what died, by a kill or of itself."""
        for process in self.panel.supervisor.processes:
            if process.died:
                self.panel.restart(process.name)

    def kill(self, name: str) -> None:
        """SIGKILL a part at a random moment of the next half second, and start it again."""
        time.sleep(self.dice.uniform(0.05, 0.5))
        self.panel.process(name).kill()
        self.panel.restart(name)

    def flush(self) -> None:
        """Everything in Redis is gone."""
        with redis.Redis.from_url(self.panel.redis.url, socket_timeout=60) as client:
            client.flushall()

    def empty_redis(self) -> None:
        """Redis loses its process and its disk, and starts empty."""
        self.panel.redis.kill()
        for kept in self.panel.redis.data_dir.glob("appendonly*"):
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
        self.panel.redis.start()

    def cut_connections(self) -> None:
        """PostgreSQL ends every session but the one that asks."""
        self.as_admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def as_admin(self, statement: str) -> None:
        with self.databases.server_connection(self.database.name) as connection:
            connection.execute(statement)

    def wait_accepted(self, count: int) -> float:
        """Until so many calls that are made from now on are accepted; the moment of now on the monotonic clock."""
        since = time.monotonic()

        def accepted() -> bool:
            return sum(call.operation is not None for call in self.load.since(since)) >= count

        wait_until(accepted, f"{count} calls to be accepted")
        return since

    def stuck(self, since: float) -> bool:
        """Whether calls were accepted from that moment of the monotonic clock on, and none of them is applied."""
        taken = [call.operation for call in self.load.since(since) if call.operation is not None]
        return bool(taken) and {row["state"] for row in self.panel.rows(STATES, ids=taken)} == {"queued"}

    def refused(self, since: float) -> bool:
        """Whether any call since that moment of the monotonic clock was a 503."""
        return any(call.status == 503 for call in self.load.since(since))

    @contextmanager
    def held_worker(self) -> Iterator[redis.Redis]:
        """No message is taken while the block lasts, for which it is given a client of Redis."""
        worker = self.panel.process("worker-sync")
        with redis.Redis.from_url(self.panel.redis.url, socket_timeout=60) as client:
            worker.pause()
            try:
                # The one it had asked for is sent to it still: the next caller's, not the block's.
                wait_until(lambda: message_faults.waiting(client), "a message that nobody takes")
                yield client
            finally:
                worker.resume()

    def kill_waiting(self) -> bool:
        """SIGKILL the pool process that waits for an advisory lock; whether one did."""
        with self.databases.server_connection(self.database.name) as connection:
            ports = [int(str(row[0])) for row in connection.execute(WAITING).fetchall()]
        workers = descendants(self.panel.process("worker-sync").pid)
        for port in ports:
            if (pid := owner_of_port(port, workers)) is not None:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def ring(self, *operations: int) -> None:
        """Send these doorbells, in this order, as a queue that doubles, reorders or delays would."""
        message_faults.ring(self.panel.redis.url, operations)

    def ring_first(self, operation: int) -> None:
        """Send its doorbell past what waits."""
        self.ring(operation)
        with redis.Redis.from_url(self.panel.redis.url, socket_timeout=60) as client:
            client.lmove(message_faults.QUEUE, message_faults.QUEUE, "LEFT", "RIGHT")

    def age(self, vps_id: int) -> None:
        """Let an hour pass for a VPS's calls: they were accepted and published an hour ago."""
        with self.databases.server_connection(self.database.name) as connection:
            connection.execute(AGE, {"id": vps_id})


STATES = "SELECT state FROM operations WHERE id = ANY(:ids) ORDER BY id"
WAITING = (
    "SELECT client_port FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND wait_event = 'advisory'"
)
AGE = (
    "UPDATE operations SET accepted_at = accepted_at - interval '1 hour', publish_at = publish_at + interval '1 hour',"
    " applied_at = applied_at - interval '1 hour' WHERE vps_id = %(id)s"
)
