"""Guests are asked about one after the other, two a second and cluster. Whether that goes too slowly. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.changes import Finding

EACH = timedelta(seconds=1)
"""So long each listed guest may take until everybody had his turn: twice what it does."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Guests of a cluster that nobody has asked about yet, of orders or records: since when (database clock) the first
    of them has been as it is listed, or in doubt."""

    cluster: str
    since: datetime


def overdue_findings(
    waiting: Iterable[Waiting], listed: Mapping[str, int], now: datetime, grace: timedelta
) -> list[Finding]:
    """One alarm for each cluster whose guests wait too long. ``listed``: how many guests a cluster lists."""
    return [
        Finding(
            "unverified-guest",
            f"cluster:{one.cluster}",
            f"guests of cluster {one.cluster} have waited since {one.since:%Y-%m-%d %H:%M} UTC for their configuration "
            "to be read, longer than reading all of them takes: nothing of them is taken",
            "alarm",
            cluster=one.cluster,
        )
        for one in waiting
        if now - one.since >= grace + EACH * listed.get(one.cluster, 0)
    ]
