"""Calls, lists and runs of a panel that has been used for years, against the same panel with an empty past.

Both have the same fleet in sync. The past is filled in pieces, for some minutes at most: the rows say how much it is.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from benchmarks.live import Panel, calls_panel
from benchmarks.measure import Aim, Ratio, each, median_ratio
from benchmarks.measuring.bursts import Measured, compared, measured
from benchmarks.measuring.load import request
from benchmarks.measuring.model import check, wait_applied
from benchmarks.rows.calls import CONNECTIONS, Calls
from benchmarks.servers import Servers
from benchmarks.sweeping import Fleet, sources
from benchmarks.sweeping_fleet import fill
from cli.operating.tokens import client_token

MACHINES = 10_000
CUSTOMER = 10
"""One of the fleet's customers."""
OPERATIONS, TOMBSTONES, PIECES = 10_000_000, 1_000_000, 20
PATIENCE_S = 420
AIM = Aim("<=", 1.2)


@dataclass(frozen=True, slots=True)
class Past:
    """What was filled in."""

    operations: int
    tombstones: int

    def __str__(self) -> str:
        return f"{self.operations / 1e6:g}M operations, {self.tombstones / 1e3:,g}k tombstones"


def measure(servers: Servers) -> Iterator[Ratio]:
    """A row for each kind of work. The ratio says how many times dearer it is."""
    machines = 2_000 if servers.quick else MACHINES
    empty, grown = servers.database(), servers.database()
    for url in (empty, grown):
        fill(url, machines)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT setval('vps_id_seq', 5000000)")
    past = _fill_past(grown, machines, servers.quick)
    with sources(machines) as port:
        fleets = [Fleet(url, port, machines, servers.postgres_pid) for url in (grown, empty)]
        for fleet in fleets:
            fleet.run("full")
        for lane in ("full", "delta", "fast"):
            yield _run(fleets, lane, past, 1 if servers.quick else 3)
    yield from _calls(servers, grown, empty, past)


def _fill_past(url: str, machines: int, quick: bool) -> Past:
    operations, tombstones = (200_000, 20_000) if quick else (OPERATIONS, TOMBSTONES)
    done, began = 0, time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        while done < PIECES and time.monotonic() - began < PATIENCE_S:
            values = {
                "first": 1_000_000 + done * tombstones // PIECES,
                "tombstones": tombstones // PIECES,
                "machines": machines,
                "each": (operations - 2 * tombstones) // PIECES // machines,
                "seq": 1 + done * ((operations - 2 * tombstones) // PIECES // machines),
                "days": 400 - 400 * done / PIECES,
            }
            for statement in PIECE:
                connection.execute(statement, values)
            done += 1
        for statement in AFTERWARDS:
            connection.execute(statement.encode())
    return Past(operations * done // PIECES, tombstones * done // PIECES)


_WHEN = "now() - %(days)s * interval '1 day'"
PIECE = (
    "INSERT INTO vps_queues (vps_id, last_seq, applied_seq, queue_state)"
    " SELECT %(first)s + i, 2, 2, 'deleted' FROM generate_series(1, %(tombstones)s) i",
    "INSERT INTO vps (id, user_id, name, cpu, ram_mb, disk_gb, os, hypervisor, order_id, order_state, order_source,"
    " order_changed_at, order_as_of, link_state, link_changed_at, power_state, power_source, power_changed_at,"
    " power_as_of, owner_changed_at, plan_changed_at, status, applied_seq, version, created_at, updated_at,"
    " order_linked_once, deleted_at, deleted_reason)"
    " SELECT %(first)s + i, 10 + i %% 5000, 'old-' || i, 2, 4096, 50, 'Debian 13', 'proxmox',"
    f" 'old-' || %(first)s + i, 'ended', 'sync', {_WHEN}, {_WHEN}, 'unlinked', {_WHEN}, 'stopped', 'sync', {_WHEN},"
    f" {_WHEN}, {_WHEN}, {_WHEN}, 'stopped', 2, 2, {_WHEN}, {_WHEN}, true, {_WHEN}, 'cancelled'"
    " FROM generate_series(1, %(tombstones)s) i",
    "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, result, accepted_at, applied_at,"
    " publish_at, publishes) SELECT 'sync', CASE seq WHEN 1 THEN 'create' ELSE 'delete' END, %(first)s + i, seq,"
    f" 'sync', '{{}}', 'applied', 'done', {_WHEN}, {_WHEN}, NULL, 1"
    " FROM generate_series(1, %(tombstones)s) i, generate_series(1, 2) seq",
    "INSERT INTO operations (kind, action, vps_id, seq, source, payload, state, result, accepted_at, applied_at,"
    " publish_at, publishes) SELECT 'sync', 'update', i, %(seq)s + n, 'sync', '{\"status\": \"running\"}', 'applied',"
    f" 'stopped -> running', {_WHEN}, {_WHEN}, NULL, 1"
    " FROM generate_series(1, %(each)s) n, generate_series(1, %(machines)s) i",
)
AFTERWARDS = (
    "UPDATE vps_queues q SET last_seq = o.seq, applied_seq = o.seq FROM"
    " (SELECT vps_id, max(seq) AS seq FROM operations GROUP BY 1) o WHERE o.vps_id = q.vps_id AND o.seq > q.last_seq",
    "UPDATE vps r SET applied_seq = q.applied_seq FROM vps_queues q"
    " WHERE q.vps_id = r.id AND q.applied_seq > r.applied_seq",
    "VACUUM ANALYZE",
    "CHECKPOINT",
)


def _run(fleets: list[Fleet], lane: str, past: Past, pairs: int) -> Ratio:
    took: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for _ in range(pairs):
        for found, fleet in zip(took, fleets, strict=True):
            found.append(fleet.run(lane))
            if found[-1]["summary"] != "nothing to repair":
                raise RuntimeError(f"the fleet is not in sync: {found[-1]}")
    seconds = ([one["s"] for one in took[0]], [one["s"] for one in took[1]])
    return Ratio(
        f"{lane} run after {past} / after none",
        *each(seconds, "{:.2f} s"),
        median_ratio(*seconds),
        aim=AIM,
        cpu=f"{Fleet.cpu(took[0])} / {Fleet.cpu(took[1])} s",
        cpu_ratio=Fleet.cpu_ratio(*took),
    )


Once = Callable[[], Measured]


def _calls(servers: Servers, grown: str, empty: str, past: Past) -> Iterator[Ratio]:
    pairs, seconds = (1, 0.4) if servers.quick else (5, 1.5)
    with contextlib.ExitStack() as stack:
        panels = [stack.enter_context(calls_panel(servers, url)) for url in (grown, empty)]
        firsts = [_next_operation(url) for url in (grown, empty)]
        calls = [Calls(panel.settings.vps_sync_api_key.get_secret_value()) for panel in panels]
        accepting = [_accepting(servers, panel, made, seconds) for panel, made in zip(panels, calls, strict=True)]
        reading = [_reading(servers, panel, seconds) for panel in panels]
        yield _row(f"accept after {past} / after none (times dearer)", accepting, pairs)
        yield _row(f"list of a customer after {past} / after none (times dearer)", reading, pairs)
        for panel, made, first in zip(panels, calls, firsts, strict=True):
            panel.worker.start()
            with psycopg.connect(panel.url, autocommit=True) as connection:
                wait_applied(connection, panel.worker)
            check(panel.url, made.model, first_operation=first, first_vps=5_000_001)
            panel.worker.stop()


def _next_operation(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM operations").fetchone()
    return 1 if row is None else int(row[0])


def _accepting(servers: Servers, panel: Panel, calls: Calls, seconds: float) -> Once:
    def once() -> Measured:
        found, sent = measured(
            panel.settings.port, calls.requests(), panel.edge_pids, servers.postgres_pid,
            connections=CONNECTIONS, seconds=seconds,
        )  # fmt: skip
        calls.promised(sent)
        return found

    return once


def _reading(servers: Servers, panel: Panel, seconds: float) -> Once:
    token = client_token(panel.settings, CUSTOMER, datetime.now(UTC), timedelta(hours=2))
    asked = request("GET", "/api/vps", {"Authorization": f"Bearer {token}"})

    def once() -> Measured:
        found, _ = measured(
            panel.settings.port, itertools.repeat(asked), panel.edge_pids, servers.postgres_pid,
            connections=16, seconds=seconds, status=200,
        )  # fmt: skip
        return found

    return once


def _row(what: str, bursts: list[Once], pairs: int) -> Ratio:
    series: tuple[list[Measured], list[Measured]] = ([], [])
    for turn in range(pairs + 1):
        for found, once in zip(series, bursts, strict=True):
            one = once()
            if turn > 0:  # the first ones warm up
                found.append(one)
    return compared(what, *series, AIM, dearer=True)
