"""How long the API lets each part of its work take, so that every answer comes in time, also with a database away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Shares of the time within which an answer must come. All of them are seconds.

    Each is shorter than the one around it, so that the innermost part that hangs is the one that gives up and says
    what happened. The rest is for the answer itself: hundreds of requests may give up in the same moment.
    """

    answer_within_s: float = 2.0

    @property
    def connection_s(self) -> float:
        """Until the pool hands out a connection; also how long a statement waits for any other lock."""
        return 0.75 * self.answer_within_s

    @property
    def lock_s(self) -> float:
        """A call's wait for what another transaction holds of its VPS or order."""
        return 0.6 * self.answer_within_s

    @property
    def keys_s(self) -> float:
        """Fetching the keys for tokens, taken from the time of the read that follows."""
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
    def queue_s(self) -> float:
        """A call's whole way through the acceptor: its wait in the queue and its commit."""
        return 0.85 * self.answer_within_s

    @property
    def accept_s(self) -> float:
        """The last resort, where even the acceptor does not answer in its own time."""
        return 0.975 * self.answer_within_s

    @property
    def remember_s(self) -> float:
        """Storing the final answer of a call that waited for its outcome."""
        return 0.5 * self.answer_within_s

    @property
    def statement_s(self) -> float:
        """PostgreSQL's own limit for a statement, which ends work that nobody waits for any more."""
        return 2.5 * self.answer_within_s

    def left_to_read_s(self, spent_s: float) -> float:
        """What is left for a read after ``spent_s`` went to something else, such as the keys for tokens.

        Never less than a twentieth of the whole: a database that is well needs less than that.
        """
        return max(self.read_s - spent_s, 0.05 * self.answer_within_s)


DEFAULT = Deadlines()
