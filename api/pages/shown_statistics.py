"""What a page shows of the statistics of a VPS: for each graph the values in words, which are also all that is shown
without JavaScript. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from statistics import fmean

from api.client.statistics_requests import Statistics
from domain.statistics.measurements import Point, Timeframe

UNITS = ("B", "KB", "MB", "GB", "TB")

NOW_S = 180
"""A value is "now" for so long. Proxmox measures once a minute, and tells of a minute once it is over."""

FIELDS = {
    "cpu": "cpu",
    "memory": "memory_used_bytes",
    "in": "network_in_bytes_per_second",
    "out": "network_out_bytes_per_second",
    "read": "disk_read_bytes_per_second",
    "write": "disk_write_bytes_per_second",
}
"""By the name of a line, the field of a point of ``GET /api/vps/{id}/stats`` that is drawn."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number and its unit: one of ``UNITS``, or ``%``."""

    number: float
    unit: str


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a graph in words. ``name``: a word of the template, and a key of ``FIELDS``. ``now``: the last value
    is of these minutes, and no average of a longer while."""

    name: str
    now: bool
    last: Amount
    average: Amount
    highest: Amount

    @property
    def field(self) -> str:
        """What the script draws of it."""
        return FIELDS[self.name]


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph. ``rate``: its amounts are by the second."""

    name: str
    rate: bool
    lines: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class ShownStatistics:
    """``graphs``: those of which something was measured. ``code``: why there is nothing, or nothing newer."""

    timeframe: Timeframe
    timeframes: tuple[Timeframe, ...] = tuple(Timeframe)
    graphs: tuple[Graph, ...] = ()
    as_of: datetime | None = None
    code: str | None = None


def shown_statistics(found: Statistics) -> ShownStatistics:
    """What a page shows of them."""
    graphs = (
        _graph("cpu", found, {"cpu": lambda p: _share(p.cores, found.cores)}, amount=lambda v: Amount(100 * v, "%")),
        _graph("memory", found, {"memory": lambda p: p.memory_used}),
        _graph("network", found, {"in": lambda p: p.network_in, "out": lambda p: p.network_out}, rate=True),
        _graph("disk", found, {"read": lambda p: p.disk_read, "write": lambda p: p.disk_write}, rate=True),
    )
    shown = tuple(graph for graph in graphs if graph.lines)
    return ShownStatistics(found.wanted.timeframe, graphs=shown, as_of=found.as_of, code=found.code)


def in_bytes(value: float) -> Amount:
    """An amount of bytes in the unit that suits it."""
    rank = 0
    while value >= 1024 and rank < len(UNITS) - 1:
        value, rank = value / 1024, rank + 1
    return Amount(value, UNITS[rank])


def _graph(
    name: str,
    found: Statistics,
    values_of: dict[str, Callable[[Point], float | None]],
    *,
    rate: bool = False,
    amount: Callable[[float], Amount] = in_bytes,
) -> Graph:
    lines, now_from = [], _now_from(found)
    for line, value_of in values_of.items():
        measured = [(point.at, value) for point in found.points if (value := value_of(point)) is not None]
        if measured:
            values, (last_at, last) = [value for _, value in measured], measured[-1]
            lines.append(Series(line, last_at > now_from, amount(last), amount(fmean(values)), amount(max(values))))
    return Graph(name, rate, tuple(lines))


def _now_from(found: Statistics) -> float:
    """After which time (Unix) a value is "now". Never, where a point is the average of more than a minute, or where the
    points are kept because nothing newer came."""
    if found.as_of is None or found.stale or found.code is not None or found.wanted.timeframe is not Timeframe.HOUR:
        return inf
    return found.as_of.timestamp() - NOW_S


def _share(busy: float | None, ordered: int) -> float | None:
    return None if busy is None else busy / ordered
