"""Sync calls from the edge to the record: accepting them, draining a backlog, and how soon a record can be read.

One panel and one database for all of them. After each step the panel must equal the model.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psycopg

from benchmarks.live import Panel, calls_panel
from benchmarks.measure import Aim, Ratio
from benchmarks.measuring.bursts import Measured, compared, measured
from benchmarks.measuring.load import Burst, request
from benchmarks.measuring.model import Created, accepted, check, wait_applied
from benchmarks.rows import draining, readable
from benchmarks.servers import Servers
from benchmarks.yardsticks.started import KEY, Yardstick, express, plain_fastapi

CONNECTIONS = 32
VPS = {"user_id": 5, "cpu": 2, "ram": 4096, "disk": 50, "os": "Debian 13"}


@dataclass(slots=True)
class Calls:
    """Makes calls, each with a name of its own, and remembers what was promised for them."""

    key: str
    model: dict[int, Created] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def requests(self, *, named: bool = False) -> Iterator[bytes]:
        """Creates without end. ``named``: each with an idempotency key and an order."""
        for number in self.numbers:
            vps: dict[str, object] = VPS | {"name": f"bench-{number}"}
            headers = {"X-API-Key": self.key}
            if named:
                vps["order_id"] = f"order-{number}"
                headers["Idempotency-Key"] = f"key-{number}"
            body = json.dumps({"action": "create", "vps": vps}).encode()
            yield request("POST", "/api/vps/sync", headers, body)

    def promised(self, sent: Burst) -> None:
        """Remember the answers."""
        self.model |= accepted(sent.bodies)


@dataclass(frozen=True, slots=True)
class Rig:
    """What is measured, beside what, and how: so many pairs of bursts of so many seconds."""

    servers: Servers
    panel: Panel
    calls: Calls
    yardsticks: Sequence[Yardstick]
    pairs: int
    seconds: float

    def ours(self, connections: int, *, named: bool = False) -> Measured:
        """A burst at the panel's edge."""
        port, requests = self.panel.settings.port, self.calls.requests(named=named)
        found, sent = self._burst(port, requests, connections, self.panel.edge_pids)
        self.calls.promised(sent)
        return found

    def yardstick(self, program: Yardstick, connections: int) -> Measured:
        """The same at a program of others."""
        return self._burst(program.port, Calls(KEY).requests(), connections, [program.pid])[0]

    def _burst(self, port: int, requests: Iterator[bytes], connections: int, pids: list[int]) -> tuple[Measured, Burst]:
        postgres = self.servers.postgres_pid
        return measured(port, requests, pids, postgres, connections=connections, seconds=self.seconds)


def measure(servers: Servers) -> Iterator[Ratio]:
    """All rows about calls."""
    url = servers.database()
    with contextlib.ExitStack() as stack:
        panel = stack.enter_context(calls_panel(servers, url))
        yardsticks = [stack.enter_context(express(servers)), stack.enter_context(plain_fastapi(servers))]
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        calls = Calls(panel.settings.vps_sync_api_key.get_secret_value())
        pairs, seconds = (2, 0.4) if servers.quick else (5, 2.0)
        rig = Rig(servers, panel, calls, yardsticks, pairs, seconds)
        yield from _compared(rig, f"accept, {CONNECTIONS} connections", yardsticks, CONNECTIONS, 1.0)
        yield from _compared(rig, "accept, 1 connection", yardsticks[:1], 1, 0.8)
        yield from _compared(rig, "accept with key and order_id", yardsticks[:1], CONNECTIONS, 1.0, named=True)
        yield from draining.measure(servers, panel, connection)
        check(url, calls.model)
        yield from _compared(rig, "accept with a worker running", yardsticks[:1], CONNECTIONS, 1.0)
        wait_applied(connection, panel.worker)
        check(url, calls.model)
        yield from readable.measure(servers, panel, calls.requests(), calls.promised, connection)
        check(url, calls.model)


def _compared(
    rig: Rig, what: str, yardsticks: Sequence[Yardstick], connections: int, aim: float, *, named: bool = False
) -> Iterator[Ratio]:
    """Ours and each yardstick in turn, as often as there are pairs."""
    rig.ours(connections, named=named)  # warms up
    for program in yardsticks:
        rig.yardstick(program, connections)
    ours, others = list[Measured](), {program.name: list[Measured]() for program in yardsticks}
    for _ in range(rig.pairs):
        ours.append(rig.ours(connections, named=named))
        for program in yardsticks:
            others[program.name].append(rig.yardstick(program, connections))
    for name, theirs in others.items():
        yield compared(f"{what} / {name}", ours, theirs, Aim(">=", aim if name.startswith("Express") else 1.0))
