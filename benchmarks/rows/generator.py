"""The load generator itself, so that nobody takes its limit for a server's."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

from benchmarks.measure import Ratio
from benchmarks.measuring.load import burst, request
from benchmarks.servers import Servers

CONNECTIONS = 32
BODY = b'{"action":"create","vps":{"user_id":5,"name":"bench","cpu":2,"ram":4096,"disk":50,"os":"Debian 13"}}'


def measure(servers: Servers) -> list[Ratio]:
    """Answers per second of a server that only answers. Nothing that is measured by it may come near."""
    command = [sys.executable, "-m", "benchmarks.measuring.trivial_server", "call"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - own module
        try:
            port = int((server.stdout.readline() if server.stdout else "") or 0)
            call = request("POST", "/api/vps/sync", {"X-API-Key": "k" * 40}, BODY)
            before = time.process_time()
            sent = burst(port, itertools.repeat(call), connections=CONNECTIONS, seconds=1.0 if servers.quick else 3.0)
            cpu = (time.process_time() - before) / len(sent.bodies) * 1e6
        finally:
            server.kill()
    what = f"the load generator's own limit, {CONNECTIONS} connections"
    return [Ratio(what, f"{sent.rate:,.0f}/s", "", None, cpu=f"{cpu:.0f} us, of the generator")]
