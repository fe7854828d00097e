"""How long and how often something known was absent. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Absence:
    """How long and how often something was absent from complete snapshots of its scope."""

    absent_since: datetime
    consecutive: int
    last_seen_absent_at: datetime
    evidence: tuple[int, ...] = ()  # snapshot ids, oldest first
