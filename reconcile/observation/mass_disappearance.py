"""Whether a source that lost much at once is believed: an operator's word is for what was missing then, for no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from panel.journal.rows import database_now
from panel.runs import source_memory

SHRINK_MIN, SHRINK_SHARE = 3, 0.02
"""A source that lost more than this since its last good read is not believed before it shows them again, each is
gone when asked for by itself, or an operator says so. Nor is a source that lost everything it had."""
ASKED_SINGLY = 20  # above that, asking takes too long for a run: an operator decides


@dataclass(frozen=True, slots=True)
class Loss:
    """What one read of a source did not show for the first time: how many of how many known entries; ``which`` they
    are (asked for only if they are many), and whether each is gone when it is asked for by itself."""

    missing: int
    known: int
    which: Callable[[], frozenset[str]]
    each_is_gone: Callable[[], bool]

    @property
    def much(self) -> bool:
        return much(self.missing, self.known)


def much(missing: int, known: int) -> bool:
    """Whether so many of so many known entries are more than vanish by themselves between two reads."""
    return missing > max(SHRINK_MIN, int(known * SHRINK_SHARE)) or 0 < known == missing


def not_believed(connection: Connection, source: str, loss: Loss) -> str | None:
    """A sentence why no absence of this read counts; None if the loss is believed.

    What is missing is kept with the sentence, and an acknowledgement is for those: once much more is missing, the
    source is degraded anew, and the operator is asked anew.
    """
    state = source_memory.source_state(connection, source)
    degraded, acknowledged = state.get("degraded_since"), state.get("acknowledged_at")
    if not loss.much or (loss.missing <= ASKED_SINGLY and loss.each_is_gone()):
        if degraded is not None:
            source_memory.remember_source(
                connection, source, degraded_since=None, degraded_reason=None, degraded_missing=None
            )
        return None
    which = loss.which()
    more = which - frozenset(state.get("degraded_missing") or ())
    everything = loss.known == loss.missing
    if degraded is not None and not much(len(more), loss.known) and not (everything and more):
        believed = acknowledged is not None and acknowledged > degraded
        return None if believed else str(state["degraded_reason"])
    reason = (
        f"{loss.missing} of {loss.known} known entries vanished at once; no absence counts before they are back or "
        "acknowledged"
    )
    now = database_now(connection)
    source_memory.remember_source(
        connection, source, degraded_since=now, degraded_reason=reason, degraded_missing=sorted(which)
    )
    return reason
