"""From a call to a record that can be read, at rates of calls: each is sent when it is due, answered or not.

A few dozen calls a second are watched, by a connection that asks every few milliseconds whether they are applied.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import psycopg

from benchmarks.live import Panel
from benchmarks.measure import Aim, Ratio
from benchmarks.measuring.load import Burst, burst, quantile
from benchmarks.measuring.model import wait_applied
from benchmarks.servers import Servers

RATES = (25, 100, 500)
WATCHED_A_SECOND = 40
CONNECTIONS = 64
AIM_MS = 50
EVERY_S = 0.004


class Watch:
    """Calls that were answered and are not readable yet, and how long it took since each was due."""

    def __init__(self, connection: psycopg.Connection, every: int) -> None:
        self._connection, self._every = connection, every
        self._answers, self._looked = 0, 0.0
        self._waiting: dict[int, float] = {}
        self.seconds: list[float] = []

    def answered(self, body: bytes, due: float) -> None:
        """Watch every so-manieth call."""
        self._answers += 1
        if self._answers % self._every == 0:
            self._waiting[json.loads(body)["operation"]["id"]] = due

    def look(self) -> None:
        """Ask whether they are applied, if that was not asked just now."""
        now = time.perf_counter()
        if not self._waiting or now - self._looked < EVERY_S:
            return
        self._looked = now
        question = "SELECT id FROM operations WHERE id = ANY(%s) AND state <> 'queued'"
        for (found,) in self._connection.execute(question, (list(self._waiting),)).fetchall():
            self.seconds.append(time.perf_counter() - self._waiting.pop(found))

    def finish(self) -> None:
        """Look until all are readable."""
        while self._waiting:
            self.look()
            time.sleep(EVERY_S)


def measure(
    servers: Servers,
    panel: Panel,
    requests: Iterator[bytes],
    promised: Callable[[Burst], None],
    connection: psycopg.Connection,
) -> list[Ratio]:
    """A row for each rate. The worker runs."""
    rows = []
    for rate in RATES:
        watch = Watch(connection, max(1, rate // WATCHED_A_SECOND))
        seconds = 1.0 if servers.quick else 8.0
        sent = burst(
            panel.settings.port, requests, connections=CONNECTIONS, seconds=seconds, rate=rate,
            answered=watch.answered, idle=watch.look,
        )  # fmt: skip
        watch.finish()
        promised(sent)
        wait_applied(connection, panel.worker)
        p50, p95 = quantile(watch.seconds, 0.5) * 1000, quantile(watch.seconds, 0.95) * 1000
        rows.append(
            Ratio(
                f"call to readable at {rate}/s, p50 and p95",
                f"{p50:,.0f} and {p95:,.0f} ms",
                "",
                None,
                aim=Aim("<=", AIM_MS, " ms p50"),
                judged=p50,
            )
        )
    return rows
