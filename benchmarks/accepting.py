"""Journaling sync calls: group commit against one commit per call, the same code and fsync."""

from __future__ import annotations

import asyncio
import time

from benchmarks.measure import Ratio
from benchmarks.servers import Servers
from panel.journal import accept
from panel.journal.accept import Acceptor
from panel.journal.calls import Accepted, Call
from panel.sessions import async_engine

CALLS = 2_000
CALLERS = 64
PAYLOAD = {
    "user_id": 5, "name": "bench", "status": "creating", "cpu": 2, "ram": 4096, "disk": 50, "os": "Debian 13",
    "hypervisor": "proxmox",
}  # fmt: skip


def measure(servers: Servers) -> list[Ratio]:
    """Calls per second at 64 callers."""
    grouped = asyncio.run(_rate(servers.database(), accept.BATCH_LIMIT))
    single = asyncio.run(_rate(servers.database(), 1))
    what = f"accepted calls per second, {CALLERS} callers (group commit / a commit each)"
    return [Ratio(what, f"{grouped:.0f}/s", f"{single:.0f}/s", grouped / single)]


async def _rate(url: str, batch_limit: int) -> float:
    engine = async_engine(url, "panel-sync bench", pool_size=2)
    limit, accept.BATCH_LIMIT = accept.BATCH_LIMIT, batch_limit
    acceptor = Acceptor(engine)
    await acceptor.start()
    left = iter(range(CALLS))

    async def caller() -> None:
        for _ in left:
            outcome = await acceptor.accept(Call("create", PAYLOAD, "bench"))
            if not isinstance(outcome, Accepted):
                raise TypeError(f"not accepted: {outcome}")

    try:
        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return CALLS / (time.perf_counter() - began)
    finally:
        accept.BATCH_LIMIT = limit
        await acceptor.stop()
        await engine.dispose()
