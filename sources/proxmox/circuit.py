"""A pause after a refused token. Pure: ``now`` is an argument and the state is a plain value.

A refused token is refused by every node and costs 3 s each time, so one 401 stops all calls to the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class CircuitState:
    """``open_until``: no call before this moment. ``refusals``: how often in a row the token was refused."""

    open_until: datetime | None = None
    refusals: int = 0

    def to_plain(self) -> dict[str, str | int | None]:
        """A JSON-ready form, for whoever keeps it between processes."""
        return {
            "open_until": None if self.open_until is None else self.open_until.isoformat(),
            "refusals": self.refusals,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, str | int | None]) -> CircuitState:
        """Read what ``to_plain`` wrote; raises ``ValueError`` for anything else."""
        open_until, refusals = plain.get("open_until"), plain.get("refusals", 0)
        if not isinstance(refusals, int) or not (open_until is None or isinstance(open_until, str)):
            raise ValueError("not a circuit's state")
        return cls(None if open_until is None else datetime.fromisoformat(open_until), refusals)


class CircuitBreaker:
    """Opens at the first refusal, for ``pause`` doubling up to ``pause_max``; closes at the first success."""

    def __init__(
        self,
        state: CircuitState | None = None,
        *,
        pause: timedelta = timedelta(seconds=60),
        pause_max: timedelta = timedelta(minutes=15),
    ) -> None:
        self.state = state or CircuitState()
        self._pause = pause
        self._pause_max = pause_max

    def allow(self, now: datetime) -> bool:
        """Whether a call may be made. A pause longer than any that was ever set is a clock that jumped back."""
        left = timedelta() if self.state.open_until is None else self.state.open_until - now
        return not timedelta() < left <= self._pause_max

    def refused(self, now: datetime) -> None:
        """The token was refused. Of several questions asked at once the first refusal counts."""
        if not self.allow(now):
            return
        doublings = min(self.state.refusals, 16)
        pause = min(self._pause_max, self._pause * 2**doublings)
        self.state = CircuitState(now + pause, self.state.refusals + 1)

    def accepted(self) -> None:
        """The token was accepted."""
        if self.state.refusals:
            self.state = replace(self.state, open_until=None, refusals=0)
