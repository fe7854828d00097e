"""A cluster in memory that has measured a machine for an hour."""

from __future__ import annotations

import time
from dataclasses import dataclass

from domain.guests import GuestType
from domain.statistics.measurements import Point, Timeframe
from domain.statistics.port import AnotherMachine, Measurements, NotRead

MIB = 1024 * 1024


@dataclass(slots=True)
class MeasuredCluster:
    """``running``: the machine ran all the time. ``answer``: what is answered instead of its measurements."""

    running: bool = True
    answer: AnotherMachine | NotRead | None = None

    def measurements(
        self, node: str, guest_type: GuestType, vmid: int, fingerprint: str, name: str | None, timeframe: Timeframe
    ) -> Measurements | AnotherMachine | NotRead:
        del node, guest_type, vmid, fingerprint, name, timeframe
        now = int(time.time())
        rows = range(now - 3600, now, 60)
        return self.answer or Measurements(tuple(map(self._point, rows)), float(now))

    def _point(self, at: int) -> Point:
        if not self.running:
            return Point(at, memory_total=2048.0 * MIB)
        return Point(at, 0.5, 512.0 * MIB, 2048.0 * MIB, 1536.0, 3.0 * MIB, 0.0, 10.5 * MIB)
