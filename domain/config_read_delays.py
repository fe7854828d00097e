"""An alarm when a cluster's guests wait too long to be asked for their configurations. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.changes import Finding

EACH = timedelta(seconds=1)
"""How long one listed guest may take. A cluster is asked for two configurations a second, so this is twice as long."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Guests of orders or records in one cluster whose configuration is still to be read. ``since``: when (database
    clock) the first of them was listed as it is, or came into doubt."""

    cluster: str
    since: datetime


def overdue_findings(
    waiting: Iterable[Waiting], listed: Mapping[str, int], now: datetime, grace: timedelta
) -> list[Finding]:
    """One alarm for each cluster whose guests wait too long. ``listed``: how many guests each cluster lists."""
    return [
        Finding(
            "unverified-guest",
            f"cluster:{wait.cluster}",
            f"guests of cluster {wait.cluster} have waited since {wait.since:%Y-%m-%d %H:%M} UTC for their "
            "configuration to be read, longer than reading all of them takes. Nothing is written from them. Check "
            "whether the cluster's nodes answer slowly, and what panel-sync doctor says of lane fast",
            "alarm",
            cluster=wait.cluster,
        )
        for wait in waiting
        if now - wait.since >= grace + EACH * listed.get(wait.cluster, 0)
    ]
