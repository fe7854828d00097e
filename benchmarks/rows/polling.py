"""The state of 10,000 guests: the fast lane's lists against the usual way, one call for each guest.

The server of the usual way answers at once with the same bytes. A real node takes longer, so the usual way is slower
than this.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx

from benchmarks.measure import Aim, Ratio, median
from benchmarks.servers import Servers
from benchmarks.sweeping import Fleet, checked, sources
from benchmarks.sweeping_fleet import fill

GUESTS = 10_000
AT_A_TIME = (4, 16, 64)
AIMS = {16: Aim(">=", 100)}


def measure(servers: Servers) -> list[Ratio]:
    """A row for each number of calls at a time."""
    guests = 1_000 if servers.quick else GUESTS
    url = servers.database()
    fill(url, guests)
    usual: dict[int, list[tuple[float, float]]] = {at_a_time: [] for at_a_time in AT_A_TIME}
    runs = []
    with sources(guests) as port, _status_server() as status_port:
        fleet = Fleet(url, port, guests, servers.postgres_pid)
        fleet.run("full")
        for _ in range(1 if servers.quick else 2):
            for at_a_time in AT_A_TIME:
                runs.append(fleet.run("fast"))
                checked(runs[-1]["summary"] == "nothing to repair" and not runs[-1]["problems"], runs[-1])
                usual[at_a_time].append(asyncio.run(_one_by_one(status_port, guests, at_a_time)))
    ours = median([run["s"] for run in runs])
    cpu_us = median([run["cpu_s"] + run["postgres_cpu_s"] for run in runs]) / guests * 1e6
    return [
        Ratio(
            f"state of {guests:,} guests, fast lane / a call for each, {at_a_time} at a time (times faster)",
            f"{ours:.2f} s",
            f"{median([took for took, _ in found]):.1f} s",
            median([took for took, _ in found]) / ours,
            aim=AIMS.get(at_a_time),
            cpu=f"{cpu_us:.0f} / {median([cpu for _, cpu in found]) / guests * 1e6:.0f} us",
            cpu_ratio=cpu_us / median([cpu for _, cpu in found]) * guests / 1e6,
        )
        for at_a_time, found in usual.items()
    ]


@contextlib.contextmanager
def _status_server() -> Iterator[int]:
    """The port of a server that tells the status of a guest, whichever is asked for."""
    command = [sys.executable, "-m", "benchmarks.measuring.trivial_server", "guest"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - own module
        try:
            yield int((server.stdout.readline() if server.stdout else "") or 0)
        finally:
            server.kill()


async def _one_by_one(port: int, guests: int, at_a_time: int) -> tuple[float, float]:
    """Seconds, and CPU seconds of the reader."""
    numbers = iter(range(guests))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

        async def reader() -> None:
            for number in numbers:
                answer = await client.get(f"/api2/json/nodes/pve{number % 10 + 1}/qemu/{100 + number}/status/current")
                if answer.json()["data"]["status"] != "running":
                    raise RuntimeError(f"not the status of a guest: {answer.text}")

        began, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(reader() for _ in range(at_a_time)))
        return time.perf_counter() - began, time.process_time() - used
