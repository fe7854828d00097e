"""What a benchmark says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ratio:
    """``ratio`` is ours over the yardstick's, of the rate, time or size that ``what`` names."""

    what: str
    ours: str
    yardstick: str
    ratio: float
