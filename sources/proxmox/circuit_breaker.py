"""A circuit breaker: a pause after a refused token. Pure: ``now`` is an argument and the state is a plain value.

Every node refuses the same token, and each refusal takes 3 s. So one 401 stops all calls to the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from domain.backoff import Backoff


@dataclass(frozen=True, slots=True)
class CircuitState:
    """``open_until``: no call before this time. ``refusals``: how often in a row the token was refused."""

    open_until: datetime | None = None
    refusals: int = 0

    def to_plain(self) -> dict[str, str | int | None]:
        """A JSON-ready form, to be stored between processes."""
        return {
            "open_until": None if self.open_until is None else self.open_until.isoformat(),
            "refusals": self.refusals,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, str | int | None]) -> CircuitState:
        """Read what ``to_plain`` wrote; raises ``ValueError`` for anything else."""
        open_until, refusals = plain.get("open_until"), plain.get("refusals", 0)
        if not isinstance(refusals, int) or not (open_until is None or isinstance(open_until, str)):
            raise ValueError("not a circuit breaker's state")
        return cls(None if open_until is None else datetime.fromisoformat(open_until), refusals)


BACKOFF = Backoff(timedelta(seconds=60), timedelta(minutes=15))


class CircuitBreaker:
    """Opens at the first refusal, for a pause that doubles; closes at the first success."""

    def __init__(self, state: CircuitState | None = None) -> None:
        self.state = state or CircuitState()

    def allow(self, now: datetime) -> bool:
        """Whether a call may be made."""
        return not BACKOFF.lasts(self.state.open_until, now)

    def refused(self, now: datetime) -> None:
        """The token was refused. Of several calls at the same time only the first refusal counts."""
        if not self.allow(now):
            return
        refusals = self.state.refusals + 1
        self.state = CircuitState(now + BACKOFF.pause(refusals), refusals)

    def accepted(self) -> None:
        """The token was accepted."""
        if self.state.refusals:
            self.state = replace(self.state, open_until=None, refusals=0)
