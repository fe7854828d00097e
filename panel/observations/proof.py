"""What proves that something is gone: one miss proves nothing, because a source may leave out what is there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Proof:
    """How often and for how long an object must be missed before it counts as gone. Later misses are not counted."""

    times: int
    period: timedelta


PROVEN = "(a.consecutive >= CAST(:times AS int) AND a.last_absent_at - a.absent_since >= CAST(:period AS interval))"
"""SQL: whether absence ``a`` is proven, by the values of a ``Proof``. Until then its subject may be there. It is the
same rule as ``reconcile.decision.cases.Policy.proven``."""
