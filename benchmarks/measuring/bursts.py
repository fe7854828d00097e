"""One burst of requests at a server, with the CPU that it and PostgreSQL used, and what two series of them say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.measure import Aim, Ratio, each, median, median_ratio
from benchmarks.measuring.load import Burst, burst
from benchmarks.measuring.processes import cpu_used


@dataclass(frozen=True, slots=True)
class Measured:
    """Answers per second; CPU microseconds an answer of the program, and of PostgreSQL."""

    rate: float
    own_us: float
    postgres_us: float

    @property
    def cpu_us(self) -> float:
        """Both together."""
        return self.own_us + self.postgres_us


def measured(
    port: int,
    requests: Iterable[bytes],
    pids: Sequence[int],
    postgres_pid: int,
    *,
    connections: int,
    seconds: float,
    status: int = 202,
) -> tuple[Measured, Burst]:
    """Send for so many seconds, and look what these processes and PostgreSQL used meanwhile."""
    with cpu_used(pids) as own, cpu_used([postgres_pid]) as postgres:
        sent = burst(port, requests, connections=connections, seconds=seconds, status=status)
    answers = len(sent.bodies)
    return Measured(sent.rate, own.cpu_s / answers * 1e6, postgres.cpu_s / answers * 1e6), sent


def compared(
    what: str, ours: Sequence[Measured], theirs: Sequence[Measured], aim: Aim, *, dearer: bool = False
) -> Ratio:
    """A row: rates, and CPU. ``dearer``: the ratio says how many times longer ours takes, not how much faster it is."""
    rates = ([one.rate for one in ours], [one.rate for one in theirs])
    return Ratio(
        what,
        *each(rates, "{:,.0f}/s"),
        median_ratio(*reversed(rates)) if dearer else median_ratio(*rates),
        aim=aim,
        cpu=f"{_text(ours)} / {_text(theirs)} us",
        cpu_ratio=median_ratio([one.cpu_us for one in ours], [one.cpu_us for one in theirs]),
    )


def _text(found: Sequence[Measured]) -> str:
    return f"{median([one.own_us for one in found]):,.0f} + {median([one.postgres_us for one in found]):,.0f}"
