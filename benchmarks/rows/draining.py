"""A backlog of accepted calls: how fast a worker applies it, against Celery's tasks that do nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import redis

from benchmarks.live import Panel
from benchmarks.measure import Aim, Ratio, median
from benchmarks.measuring.model import wait_applied, wait_until
from benchmarks.measuring.processes import cpu_s
from benchmarks.servers import Servers
from benchmarks.yardsticks import celery_noop
from benchmarks.yardsticks.started import celery_worker

WARM = 0.1
"""This share of the backlog is gone before the clock runs, so that no start of a process is measured."""


def measure(servers: Servers, panel: Panel, connection: psycopg.Connection) -> list[Ratio]:
    """Start the worker of a panel that has a backlog, and watch. It runs on afterwards."""
    concurrency = panel.settings.worker_concurrency
    before = _noop(servers, concurrency)
    count, rate, cpu_us = _drained(panel, connection)
    theirs = [before, _noop(servers, concurrency)]
    yardstick, yardstick_us = median([noop[0] for noop in theirs]), median([noop[1] for noop in theirs])
    return [
        Ratio(
            f"drain of a backlog of {count:,} calls, {concurrency} processes / Celery no-op tasks",
            f"{rate:,.0f}/s",
            f"{yardstick:,.0f}/s",
            rate / yardstick,
            aim=Aim(">=", 3_000, "/s"),
            judged=rate,
            cpu=f"{cpu_us:,.0f} / {yardstick_us:,.0f} us, of the worker",
            cpu_ratio=cpu_us / yardstick_us,
        )
    ]


def _drained(panel: Panel, connection: psycopg.Connection) -> tuple[int, float, float]:
    """How many calls waited, calls per second, CPU microseconds a call: NaN if the worker ended on the way."""

    def waiting() -> int:
        row = connection.execute("SELECT count(*) FROM operations WHERE state = 'queued'").fetchone()
        return 0 if row is None else int(row[0])

    count = waiting()
    panel.worker.start()
    pids = panel.worker_pids
    left, began, used = _warm(count, waiting, pids)
    wait_applied(connection, panel.worker)
    took = time.perf_counter() - began
    same = panel.worker_pids == pids
    return count, left / took, (cpu_s(pids) - used) / left * 1e6 if same else float("nan")


def _noop(servers: Servers, concurrency: int) -> tuple[float, float]:
    """Tasks per second, and CPU microseconds a task."""
    count = 1_500 if servers.quick else 6_000
    url = servers.fresh_redis()
    celery_noop.app.conf.broker_url = url
    with redis.Redis.from_url(url) as client, celery_worker(url, concurrency) as worker:
        for number in range(count):
            celery_noop.nothing.delay(number)

        def waiting() -> int:
            return int(client.llen("noop")) + int(client.hlen("unacked"))

        worker.start()
        left, began, used = _warm(count, waiting, [worker.pid])
        wait_until(lambda: waiting() == 0, "Celery's tasks", every_s=0.005)
        took = time.perf_counter() - began
        return left / took, (cpu_s([worker.pid]) - used) / left * 1e6


def _warm(count: int, waiting: Callable[[], int], pids: list[int]) -> tuple[int, float, float]:
    """Wait until the first part is gone. How many are left, since when, and the CPU seconds used until then."""
    left = count

    def warm() -> bool:
        nonlocal left
        left = waiting()
        return left <= (1 - WARM) * count

    wait_until(warm, "the worker to begin", every_s=0.005)
    return max(left, 1), time.perf_counter(), cpu_s(pids)
