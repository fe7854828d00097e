"""Whether a source that lost much at once is believed. An acknowledgement covers what was missing then, no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from panel.journal.rows import database_now
from panel.runs import source_states

SHRINK_MIN, SHRINK_SHARE = 3, 0.02
"""A source that lost more than this since its last good read, or everything, is not believed. It is believed again once
it shows the lost entries, once each is gone when looked up singly, or once an operator acknowledges the loss."""
ASKED_SINGLY = 20  # more look-ups than this take too long for a run: an operator decides


@dataclass(frozen=True, slots=True)
class Loss:
    """What one read of a source does not show, although every read before it did.

    ``missing``: how many entries. ``known``: how many it should have shown. ``names``: gives the names of the missing
    ones; called only if they are too many to be believed at once. ``each_is_gone``: asks the source for each of them
    singly, and says whether all are gone; called only for a loss that no operator acknowledged.
    """

    missing: int
    known: int
    names: Callable[[], frozenset[str]]
    each_is_gone: Callable[[], bool]

    @property
    def is_mass(self) -> bool:
        return is_mass_loss(self.missing, self.known)


def is_mass_loss(missing: int, known: int) -> bool:
    """Whether more known entries are missing than vanish by themselves between two reads."""
    return missing > max(SHRINK_MIN, int(known * SHRINK_SHARE)) or 0 < known == missing


def why_not_believed(connection: Connection, source: str, loss: Loss) -> str | None:
    """A sentence why no absence of this read counts; None if the loss is believed.

    The missing entries are stored with the sentence, and an acknowledgement covers only those. If much more is missing
    later, the source is degraded again, and an operator is asked again.
    """
    state = source_states.source_state(connection, source)
    degraded, acknowledged = state.get("degraded_since"), state.get("acknowledged_at")
    names = loss.names() if loss.is_mass else frozenset[str]()
    more = names - frozenset(state.get("degraded_missing") or ())
    everything = loss.known == loss.missing
    as_before = degraded is not None and not is_mass_loss(len(more), loss.known) and not (everything and more)
    if loss.is_mass and as_before and acknowledged is not None and acknowledged > degraded:
        return None
    if not loss.is_mass or (loss.missing <= ASKED_SINGLY and loss.each_is_gone()):
        if degraded is not None:
            source_states.remember_source(
                connection, source, degraded_since=None, degraded_reason=None, degraded_missing=None
            )
        return None
    if as_before:
        return str(state["degraded_reason"])
    reason = (
        f"{loss.missing} of {loss.known} known entries vanished at once; no absence counts before they are back or "
        "acknowledged"
    )
    now = database_now(connection)
    source_states.remember_source(
        connection, source, degraded_since=now, degraded_reason=reason, degraded_missing=sorted(names)
    )
    return reason
