"""Answers that harm whoever reads them: bombs, layers, heads without end, words that a library chokes on.

A server on loopback stands in the main site's place and sends the bytes. Every case is a row of docs/faults.md.
"""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from reconcile.run import run_full
from sources.config import FeedKind, MainSiteConfig
from sources.main_site import make_feed
from tests.faults_of_sources.conftest import MakeBench
from tests.faults_of_sources.ledger import Ledger, Write
from tests.integration.sources.raw_server import RawServer, Send, http
from tests.stories.steps import Sold, converge, sell, statuses
from tests.support.bench import Bench

LIMIT = 256 * 1024
RUNS = 3


def packed(layers: int) -> bytes:
    """An answer of thirty times what may be kept, compressed so many times."""
    body = b" " * 30 * LIMIT
    for _ in range(layers):
        body = gzip.compress(body, 1)
    return http(body, extra=f"Content-Encoding: {', '.join(['gzip'] * layers)}\r\n")


def endless(first: bytes, again: bytes, pause_s: float = 0.0) -> Callable[[socket.socket, threading.Event], None]:
    """Send the first, then the other again and again until the caller hangs up."""

    def send(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        while not over.wait(pause_s):
            connection.sendall(again)

    return send


@dataclass(frozen=True, slots=True)
class Fault:
    """``told``: in a problem of the run."""

    name: str
    wire: bytes | Send
    told: str
    within_s: float = 120.0


FAULTS = (
    Fault("a bomb", packed(1), f"larger than {LIMIT} bytes"),
    Fault("two layers", packed(2), "compressed in a way that was not asked for"),
    Fault(
        "a dripping head",
        endless(b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.02),
        "the answer took longer than 1 s",
        within_s=1.0,
    ),
    Fault("interim answers", endless(b"", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"), "head is larger"),
    Fault("nonsense", b"HTTP/1.1 302 Found\r\nLocation: javascript:1\r\nContent-Length: 0\r\n\r\n", "answered 302"),
    Fault("no HTTP", b"\x16\x03\x01\x00\x02\r\n\r\n", "the connection ended before the whole answer had arrived"),
)


@pytest.fixture(scope="module")
def world(make_bench: MakeBench) -> Bench:
    return make_bench()


@pytest.fixture(scope="module")
def existing(world: Bench) -> list[Sold]:
    made = [sell(world, f"existing-{n}") for n in range(3)]
    converge(world, *made)
    return made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_answer_fault(world: Bench, existing: list[Sold], fault: Fault) -> None:
    before, ledger = statuses(world), Ledger.open(world)
    world.site.set_status(existing[0].order_id, "suspended", notify=False)
    world.pve.set_status(existing[1].vmid, "stopped")
    problems: set[str] = set()
    with RawServer(fault.wire) as server:
        feed = make_feed(
            MainSiteConfig(
                base_url=f"http://{server.authority}",
                api_key=world.settings.main_site_api_key,
                feed=FeedKind.ORDERS,
                attempts=1,
                answer_timeout_s=fault.within_s,
                max_body_bytes=LIMIT,
            )
        )
        for _ in range(RUNS):
            problems |= set(run_full(replace(world.reconciler(), feed=feed), trigger="test").problems)

    stopped = {Write(one.vps_id, "update", "running -> stopped", "missed-status") for one in existing[:2]}
    assert ledger.written() == sorted(stopped), "what Proxmox shows, and nothing of the feed"
    assert statuses(world) == before | {one.vps_id: "stopped" for one in existing[:2]}
    assert ledger.counted() == {}
    assert ledger.kept("orders") == 0
    assert any(fault.told in problem for problem in problems), problems

    world.site.set_status(existing[0].order_id, "running", notify=False)
    world.pve.set_status(existing[1].vmid, "running")
    world.run(2)
    assert statuses(world) == before
