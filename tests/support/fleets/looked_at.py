"""Customers who look at statistics, and the worker that reads them: each step by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine, text

from domain.power.permission import Refusal
from domain.statistics.measurements import Timeframe
from domain.statistics.port import StatisticsSource
from panel.power.facts import PowerRules, permitted
from panel.statistics.requests import Kept, Wanted, ask, kept_statistics
from reconcile.vps_statistics import StatisticsReader
from tests.support.databases import Database
from tests.support.fleets.switchable import RULES, spoil

FACT_TIMES = ("created_at", "owner_changed_at", "link_changed_at")


@dataclass(slots=True)
class Looker:
    """A panel with one cluster. ``clock``: of the worker."""

    engine: Engine
    database: Database
    source: StatisticsSource
    rules: PowerRules = field(default_factory=lambda: RULES)
    clock: Callable[[], float] = lambda: 0.0

    def asks(self, vps_id: int = 1, user_id: int = 5, timeframe: Timeframe = Timeframe.HOUR) -> int | None:
        """A customer looks. Returns the id of the row if a read was asked for."""
        before = self.requests()
        with self.engine.begin() as connection:
            target = permitted(connection, vps_id, user_id, self.rules)
            assert not isinstance(target, Refusal), target
            busy_for_s = ask(connection, Wanted(vps_id, user_id, timeframe), target)
            assert busy_for_s is None, busy_for_s
        new = set(self.requests()) - set(before)
        return new.pop() if new else None

    def requests(self) -> list[int]:
        """What the relay would publish."""
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT subject FROM task_requests WHERE task = 'statistics.read'"))
            return [int(row.subject) for row in rows]

    def works(self, row_id: int) -> str:
        """A worker gets the message."""
        with self.engine.begin() as connection:
            connection.execute(text("DELETE FROM task_requests WHERE subject = :id"), {"id": str(row_id)})
        return StatisticsReader(self.engine, {"main": self.source}.get, self.rules, self.clock).read(row_id)

    def looks(self, vps_id: int = 1, user_id: int = 5, timeframe: Timeframe = Timeframe.HOUR) -> Kept:
        """A customer looks, a worker reads, and the customer looks again."""
        row_id = self.asks(vps_id, user_id, timeframe)
        assert row_id is not None, "a read was not asked for"
        self.works(row_id)
        return self.kept(vps_id, user_id, timeframe)

    def kept(self, vps_id: int = 1, user_id: int = 5, timeframe: Timeframe = Timeframe.HOUR) -> Kept:
        """What this customer sees."""

        async def read() -> Kept:
            engine = self.database.api_engine("panel-sync test client", pool_size=1)
            try:
                return await kept_statistics(engine, Wanted(vps_id, user_id, timeframe))
            finally:
                await engine.dispose()

        return asyncio.run(read())

    def ages(self, seconds: float) -> None:
        """Let all that was kept have been kept so many seconds earlier."""
        moments = ("asked_at", "waits_since", "taken_until", "read_at", "failed_at")
        earlier = ", ".join(f"{name} = {name} - make_interval(secs => :s)" for name in moments)
        spoil(self.engine, f"UPDATE vps_statistics SET {earlier}", s=seconds)


def known_for(engine: Engine, seconds: float, vps_id: int = 1) -> None:
    """Let the record have had its owner and its machine for so long."""
    earlier = ", ".join(f"{name} = clock_timestamp() - make_interval(secs => :s)" for name in FACT_TIMES)
    spoil(engine, f"UPDATE vps SET {earlier} WHERE id = :id", s=seconds, id=vps_id)
    spoil(
        engine,
        "UPDATE guests g SET fingerprint_since = clock_timestamp() - make_interval(secs => :s) FROM vps r"
        " WHERE r.id = :id AND g.cluster = r.cluster AND g.vmid = r.vmid",
        s=seconds,
        id=vps_id,
    )
