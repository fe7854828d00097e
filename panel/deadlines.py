"""How long each part of the API's work may take, so that every answer comes in time, even if the database is away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Shares of the time within which an answer must come, in seconds.

    Each deadline is shorter than that of the part around it. So the innermost part that hangs gives up first and says
    what happened. The rest of the time is for the answer itself: hundreds of requests may give up at the same moment.
    """

    answer_within_s: float = 2.0

    @property
    def connection_s(self) -> float:
        """How long a request waits for a connection of the pool. Also how long a statement waits for any lock other
        than those of ``lock_s``."""
        return 0.75 * self.answer_within_s

    @property
    def lock_s(self) -> float:
        """How long a call waits for a lock that another transaction holds on its VPS or order."""
        return 0.6 * self.answer_within_s

    @property
    def keys_s(self) -> float:
        """Fetching the keys for tokens. It comes out of the time of the read that follows."""
        return 0.75 * self.answer_within_s

    @property
    def read_s(self) -> float:
        """A read of the database."""
        return 0.8 * self.answer_within_s

    @property
    def transaction_s(self) -> float:
        """A transaction that journals calls."""
        return 0.8 * self.answer_within_s

    @property
    def begin_s(self) -> float:
        """A batch begins no further transaction after this. The one under way then has time to end before
        ``queue_s``."""
        return 0.6 * self.answer_within_s

    @property
    def queue_s(self) -> float:
        """A call's way through the acceptor: its wait in the queue and its commit."""
        return 0.85 * self.answer_within_s

    @property
    def remember_s(self) -> float:
        """Storing the final answer of a call that waited for its outcome."""
        return 0.5 * self.answer_within_s

    @property
    def statement_s(self) -> float:
        """PostgreSQL's own limit for a statement. It ends work whose caller has given up."""
        return 2.5 * self.answer_within_s

    def left_to_read_s(self, spent_s: float) -> float:
        """What is left for a read after ``spent_s`` went to something else, such as the keys for tokens.

        At least a twentieth of the whole: a healthy database needs less than that.
        """
        return max(self.read_s - spent_s, 0.05 * self.answer_within_s)


DEFAULT = Deadlines()
