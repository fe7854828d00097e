"""What a benchmark says: a figure, the yardstick's, their ratio, and what was aimed at."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Aim:
    """A limit for a number, and how the table writes it."""

    sense: Literal[">=", "<="]
    limit: float
    unit: str = ""

    def met(self, number: float) -> bool:
        """Whether the number keeps the limit. What is no number (nothing was measured) keeps none."""
        return number >= self.limit if self.sense == ">=" else number <= self.limit

    def __str__(self) -> str:
        return f"{self.sense} {self.limit:,g}{self.unit}"


@dataclass(frozen=True, slots=True)
class Point:
    """What a row adds to the plot: seconds at so many machines, ours and the yardstick's."""

    series: str
    machines: int
    ours_s: float
    yardstick_s: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """``ratio`` is ours over the yardstick's, of the rate, time or size that ``what`` names; None without a yardstick.

    ``judged``: the number that the aim is for, if it is not the ratio. ``cpu``: CPU per unit of both, as "own +
    PostgreSQL"; ``cpu_ratio``: ours over the yardstick's, both parts together.
    """

    what: str
    ours: str
    yardstick: str
    ratio: float | None
    aim: Aim | None = None
    judged: float | None = None
    cpu: str = ""
    cpu_ratio: float | None = None
    point: Point | None = None

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None if there is none."""
        number = self.ratio if self.judged is None else self.judged
        if self.aim is None:
            return None
        return number is not None and self.aim.met(number)


def each(pair: tuple[Sequence[float], Sequence[float]], form: str) -> tuple[str, str]:
    """The medians of ours and of the yardstick's, written by a format such as ``"{:.2f} s"``."""
    return form.format(median(pair[0])), form.format(median(pair[1]))


def median(numbers: Sequence[float]) -> float:
    """The median; NaN of nothing."""
    return statistics.median(numbers) if numbers else float("nan")


def median_ratio(ours: Sequence[float], yardstick: Sequence[float]) -> float:
    """The median of the ratios of each pair: the speed of a machine that is shared drifts from pair to pair."""
    return median([a / b for a, b in zip(ours, yardstick, strict=True)])
