"""What the panel costs while nothing happens, and what a command costs before it does anything."""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path

from benchmarks.live import live_panel
from benchmarks.measure import Aim, Ratio, median
from benchmarks.measuring.processes import command_cpu_s, cpu_used, proportional_bytes
from benchmarks.servers import Servers
from runtime.processes.free_ports import free_port

MB = 2**20


def start(servers: Servers) -> list[Ratio]:
    """CPU of ``panel-sync --help`` against the import of the library that reads its command line, in turn."""
    command = [str(Path(sys.executable).parent / "panel-sync"), "--help"]
    typer = [sys.executable, "-c", "import typer"]
    ours, theirs = list[float](), list[float]()
    for _ in range(3 if servers.quick else 9):
        ours.append(command_cpu_s(command))
        theirs.append(command_cpu_s(typer))
    took, yardstick = median(ours), median(theirs)
    what = "CPU of `panel-sync --help` / of `import typer`"
    aim = Aim("<=", 0.3, " s")
    return [Ratio(what, f"{took:.2f} s", f"{yardstick:.2f} s", took / yardstick, aim=aim, judged=took)]


def measure(servers: Servers) -> list[Ratio]:
    """Memory and CPU of all parts, Flower too, with a main site and a cluster that have nothing to tell."""
    settings = {"FLOWER_PASSWORD": secrets.token_urlsafe(16), "FLOWER_PORT": str(free_port()), "DEMO": "false"}
    with live_panel(servers, servers.database(), 1, settings, flower=True) as panel:
        time.sleep(8 if servers.quick else 45)  # until all parts have started and the first runs are over
        pids = [process.pid for process in panel.supervisor.processes]
        seconds = 8 if servers.quick else 120
        with cpu_used(pids) as used:
            time.sleep(seconds)
        memory = proportional_bytes(pids) / MB
        flower = proportional_bytes([panel.supervisor.process("flower").pid]) / MB
    busy = used.cpu_s / seconds * 100
    parts = f"{memory:.0f} MB, {flower:.0f} of it Flower"
    return [
        Ratio("idle stack, proportional memory", parts, "", None, aim=Aim("<=", 400, " MB"), judged=memory),
        Ratio("idle stack, share of a core", f"{busy:.1f} %", "", None, aim=Aim("<=", 1.5, " %"), judged=busy),
    ]
