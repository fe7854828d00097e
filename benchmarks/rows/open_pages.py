"""Sync calls over HTTP while 500 pages of customers are open, against the same panel while none is open.

An open page holds a stream of live changes, and reads itself again as often as a list of VPS does. The calls are for
customers of whom no page is open: what is measured is the cost of pages that wait. Prepared bytes
ask for the pages, not a browser, so that the asking takes little of the panel's cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import psycopg

from api.client.live_changes import CHANGED, OPENED, STREAMS_OF_USER
from api.pages.vps_routes import RENEWED_EVERY_S
from benchmarks.live import LivePanel, live_panel
from benchmarks.measure import Aim, Ratio
from benchmarks.measuring.bursts import Measured, compared, measured
from benchmarks.measuring.load import Burst, burst, request
from benchmarks.measuring.model import check, complain, wait_applied
from benchmarks.rows.calls import CONNECTIONS, VPS, Calls
from benchmarks.servers import Servers
from cli.operating.tokens import client_token

PAGES = 500
CUSTOMERS = -(-PAGES // STREAMS_OF_USER)
FIRST_CUSTOMER = 1_000
PAIRS = 8
LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")


def measure(servers: Servers) -> list[Ratio]:
    """Calls per second and the API's CPU time per call, with pages open and without, in turn."""
    url = servers.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO users (id, username) SELECT id, 'customer' || id FROM generate_series(%s::int, %s) AS id",
            (FIRST_CUSTOMER, FIRST_CUSTOMER + CUSTOMERS - 1),
        )
        with live_panel(servers, url, 1, {"LOG_FORMAT": "json"}) as panel:
            rig = Rig(
                panel,
                Calls(panel.settings.vps_sync_api_key.get_secret_value()),
                servers.postgres_pid,
                1.5 if servers.quick else 3,
            )
            rig.calls.promised(_first_vps(rig))
            alone, beside = asyncio.run(_in_turn(rig, 1 if servers.quick else PAIRS))
            wait_applied(connection, panel.supervisor)
        check(url, rig.calls.model)
    return [compared(f"accept with {PAGES} pages open / with none", beside, alone, Aim(">=", 0.95))]


@dataclass(frozen=True, slots=True)
class Rig:
    """The panel, the calls, and how many seconds a burst takes."""

    panel: LivePanel
    calls: Calls
    postgres_pid: int
    seconds: float

    async def burst(self) -> Measured:
        """One burst, in a thread, so that the pages go on reading their streams."""
        parts = self.panel.supervisor.processes
        pids = [part.pid for part in parts if not part.name.startswith(("worker", "beat"))]
        requests, port = self.calls.requests(), self.panel.settings.port
        found, sent = await asyncio.to_thread(
            measured, port, requests, pids, self.postgres_pid, connections=CONNECTIONS, seconds=self.seconds
        )
        self.calls.promised(sent)
        return found


async def _in_turn(rig: Rig, pairs: int) -> tuple[list[Measured], list[Measured]]:
    alone, beside = [], []
    await rig.burst()  # warms up
    for _ in range(pairs):
        alone.append(await rig.burst())
        async with _open_pages(rig.panel):
            beside.append(await rig.burst())
    return alone, beside


def _first_vps(rig: Rig) -> Burst:
    """A VPS for each customer who looks at pages."""
    headers = {"X-API-Key": rig.calls.key}
    sold = [
        VPS | {"user_id": user, "name": f"own-{user}"} for user in range(FIRST_CUSTOMER, FIRST_CUSTOMER + CUSTOMERS)
    ]
    calls = [
        request("POST", "/api/vps/sync", headers, json.dumps({"action": "create", "vps": vps}).encode()) for vps in sold
    ]
    return burst(rig.panel.settings.port, calls, connections=1)


@contextlib.asynccontextmanager
async def _open_pages(panel: LivePanel) -> AsyncIterator[None]:
    """All pages, as long as the block lasts."""
    customers = range(FIRST_CUSTOMER, FIRST_CUSTOMER + CUSTOMERS)
    tokens = {user: client_token(panel.settings, user, datetime.now(UTC), timedelta(hours=1)) for user in customers}
    # They sign in first: a sign-in is told to all streams of its customer.
    pages = [_page(panel, user, token) for user, token in tokens.items()]
    open_pages = list(itertools.islice(itertools.cycle(customers), PAGES))
    streams = [await _stream(panel, tokens[user]) for user in open_pages]
    for reader, _ in streams:  # each is told once to read the page again: that is the cost of opening it
        await reader.readuntil(CHANGED)
    renewing = asyncio.create_task(_renew(panel, pages))
    try:
        yield
        complain([f"a page could not be renewed: {renewing.exception()}"] if renewing.done() else [])
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        for _, writer in streams:
            writer.close()


async def _stream(panel: LivePanel, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", panel.settings.port)
    writer.write(f"GET /api/vps/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    await reader.readuntil(OPENED)
    return reader, writer


def _page(panel: LivePanel, user: int, token: str) -> bytes:
    """What a browser asks for that is signed in and renews its list."""
    root = f"http://127.0.0.1:{panel.settings.port}"
    headers = {"Sec-Fetch-Site": "same-origin"}
    answer = httpx.post(f"{root}/sign-in", data={"token": token}, headers=headers, trust_env=False)
    complain([] if answer.status_code == httpx.codes.SEE_OTHER else [f"not signed in: {answer.status_code}"])
    cookies = "; ".join(f"{name}={value}" for name, value in answer.cookies.items())
    return request("GET", "/", {"Cookie": cookies, "HX-Request": "true", "X-Page-Of": str(user)})


async def _renew(panel: LivePanel, pages: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", panel.settings.port)
    for asked in itertools.cycle(pages):
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        complain([] if head.startswith(b"HTTP/1.1 200") else [f"a page said {head[:30]!r}"])
        length = LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
        await asyncio.sleep(RENEWED_EVERY_S / PAGES)
