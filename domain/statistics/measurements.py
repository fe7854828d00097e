"""What Proxmox measured of a guest over time, and which of it is the guest's own.

Proxmox keeps them by VMID. They outlive the guest: those of the next one that gets the VMID go on behind them. So a
point counts only if all that it may be made of was measured after the machine was known to be this customer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from statistics import fmean


class Timeframe(StrEnum):
    """How far back measurements go. The words are Proxmox's."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


COVERS_S = {
    Timeframe.HOUR: 60,
    Timeframe.DAY: 1_800,
    Timeframe.WEEK: 10_800,
    Timeframe.MONTH: 43_200,
    Timeframe.YEAR: 604_800,
}
"""Seconds over which a point may be the average, at most: those of Proxmox VE 8. Newer ones have finer points, but mix
the old ones into them for as long as they have any."""

UNSURE_S = 180
"""Two minutes: for so long after a change of machines a rate may still be reckoned from the counter of the machine
before. And one minute by which the clocks of a cluster's nodes may differ."""

AHEAD_S = 60
"""A point that is later than this after its answer was dated was stamped by a clock that cannot be trusted."""

MOST = 400
"""Points that are kept of one timeframe. Newer versions of Proxmox send 1,440 of a day, far more than a graph shows."""


@dataclass(frozen=True, slots=True)
class Point:
    """The averages of a while that ends or begins at ``at`` (Unix time). None: not measured, as while the machine is
    off. ``cores``: how many were busy. Memory in bytes; the rest in bytes a second."""

    at: int
    cores: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    network_in: float | None = None
    network_out: float | None = None
    disk_read: float | None = None
    disk_write: float | None = None

    @property
    def measured(self) -> bool:
        """Whether the machine ran: all but its size is measured only then."""
        return any(getattr(self, name) is not None for name in VALUES if name != "memory_total")


VALUES = tuple(field.name for field in fields(Point) if field.name != "at")


def own(points: Iterable[Point], timeframe: Timeframe, since: float) -> list[Point]:
    """The points that show nothing of before ``since``: Unix time, by the clock that stamped them."""
    first = since + COVERS_S[timeframe] + UNSURE_S
    return [point for point in points if point.at >= first]


def thinned(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most so many points, each the average of as many neighbours."""
    together = -(-len(points) // most)
    return [_average(points[at : at + together]) for at in range(0, len(points), together)] if points else []


def _average(points: Sequence[Point]) -> Point:
    if len(points) == 1:
        return points[0]
    known = {name: [value for p in points if (value := getattr(p, name)) is not None] for name in VALUES}
    return Point(points[-1].at, **{name: fmean(values) for name, values in known.items() if values})
