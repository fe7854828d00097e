"""The panel under load, what may be done to it, and what must hold while it is done."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import redis
from sqlalchemy.exc import DBAPIError

from chaos import bells
from chaos.calls import Said
from chaos.tcp_proxy import TcpProxy
from tests.faults.audit import journal_faults
from tests.faults.load import Load
from tests.support.databases import Database, Databases
from tests.support.live_panel import LivePanel
from tests.support.waiting import wait_until

IN_TIME_S = 2.6
"""Every answer is to come within two seconds; the rest is the test's own machine, which has other work to do."""

RECOVERED_S = 40.0


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
        """While the block lasts and until the panel is well again: every answer in time and one of ``answers`` (None:
        no answer). Then the journal is exactly what the answers said."""
        began = time.monotonic()
        with self.load.undaunted():
            yield
        self.wait_well()
        said = self.load.since(began)
        late = [one for one in said if one.took_s > IN_TIME_S and one.status is not None]
        assert not late, (fault, late)
        assert {one.status for one in said} <= answers, (fault, [one for one in said if one.status not in answers])
        refused = [one for one in said if one.status == 503]
        assert all(int(one.retry_after or 0) >= 1 for one in refused), refused
        assert {one.code for one in refused} <= {"database_away", "overloaded", "outcome_unknown"}
        assert sum(one.operation is not None for one in said) > 0, (fault, said)
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
        taken = [one for one in self.load.since(since) if one.operation is not None]
        return bool(taken) and self.state(min(taken, key=lambda one: one.at)) == "applied"

    def state(self, one: Said) -> str:
        rows = self.panel.rows("SELECT state FROM operations WHERE id = :id", id=one.operation)
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
        with redis.Redis.from_url(self.panel.redis.url, socket_timeout=5) as client:
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

    def ring(self, *operations: int) -> None:
        """Send these doorbells, in this order, as a queue that doubles, reorders or delays would."""
        bells.ring(self.panel.redis.url, operations)

    def age(self, vps_id: int) -> None:
        """Let an hour pass for a VPS's calls: they were accepted and published an hour ago."""
        with self.databases.server_connection(self.database.name) as connection:
            connection.execute(AGE, {"id": vps_id})


AGE = (
    "UPDATE operations SET accepted_at = accepted_at - interval '1 hour', publish_at = publish_at + interval '1 hour',"
    " applied_at = applied_at - interval '1 hour' WHERE vps_id = %(id)s"
)
