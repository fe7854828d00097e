"""What a cluster measured under each VMID, as ``rrddata`` shows it.

A real cluster keeps it by VMID alone: it outlives the guest, and the next guest with that VMID goes on in it. Values
are made from the time and the size of the guest, so that every machine shows its own.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from lab.simulators.proxmox.guests import Guest

MEASUREMENTS_PATH = re.compile(r"^/nodes/[^/]+/(?:qemu|lxc)/(?P<vmid>\d+)/rrddata$")

STEPS = {"hour": (60, 60), "day": (60, 1440), "week": (1800, 336), "month": (1800, 1440), "year": (21600, 1440)}
"""Seconds from point to point, and how many points, as Proxmox VE 9 has them."""


@dataclass(slots=True)
class Stay:
    """A guest had a VMID from `since` to `until` (Unix time; None: it has it now)."""

    guest: Guest
    since: float
    until: float | None = None


def points(stays: list[Stay], *, running: bool, timeframe: str, now: float) -> list[dict[str, Any]]:
    """All points of the timeframe. `running`: the guest that is there now has run ever since it came; else it never
    did."""
    step, count = STEPS[timeframe]
    end = int(now) // step * step
    return [
        {"time": at, **_measured(stays, at, running=running)} for at in range(end - step * (count - 1), end + 1, step)
    ]


def _measured(stays: list[Stay], at: int, *, running: bool) -> dict[str, Any]:
    stay = next((s for s in reversed(stays) if s.since <= at and (s.until is None or at < s.until)), None)
    if stay is None:
        return {}
    size = stay.guest.memory_mb * 1024 * 1024
    sizes = {"maxcpu": stay.guest.cores, "maxmem": size, "maxdisk": stay.guest.disk_gb * 1024**3, "disk": 0}
    if stay.until is None and not running:
        return sizes
    wave = (1 + math.sin(at / 1700 + stay.guest.vmid)) / 2
    return sizes | {
        "cpu": 0.05 + 0.5 * wave,
        "mem": size * (0.4 + 0.2 * wave),
        "memhost": size * 0.7,
        "netin": 20_000 + 900_000 * wave,
        "netout": 50_000 + 2_000_000 * wave,
        "diskread": 4_000 * wave,
        "diskwrite": 10_000 + 70_000 * wave,
        "pressurecpusome": 0.0,
    }
