"""The promises to callers, checked against every answer: there is one, in time, and it says when to try again. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from lab.chaos.calls import Said
from lab.chaos.phases import Failing

ANSWER_S = 2.0
"""How long an answer may take, whatever fails."""

_AWAY = frozenset({"database_away", "outcome_unknown", "overloaded"})
_IN_FLIGHT = "idempotency_key_in_flight"


def broken_answers(
    said: Iterable[Said], away: Sequence[Failing], dead: Sequence[Failing], most_s: float = ANSWER_S
) -> Iterator[str]:
    """Sentences about answers that no caller should have got.

    ``away``: when the database was failing, the only time for a 503. ``dead``: from each killed API's end until the
    next one listened, the only time for no answer.
    """
    database, api = _Times(away), _Times(dead)
    for one in said:
        if one.status is None:
            if not api.meet(one.at, one.at + one.took_s):
                yield f"a call had no answer after {one.took_s:.1f} s, though no API was killed"
            continue
        told = f"{one.status} {one.code}" if one.code else f"{one.status}"
        if one.took_s >= most_s:
            yield f"an answer ({told}) took {one.took_s:.1f} s"
        if one.status == 503:
            if not database.meet(one.at, one.at + one.took_s):
                yield f"an answer was {told}, though the database was well"
            if one.code not in _AWAY or not (one.retry_after or "").isdigit() or int(one.retry_after or 0) < 1:
                yield f"an answer was {told} with Retry-After {one.retry_after}"
        elif one.operation is None and not (one.keyed and one.code == _IN_FLIGHT):
            yield f"an answer was {told}"


class _Times:
    """Spans of time, merged for quick look-ups."""

    def __init__(self, spans: Iterable[Failing]) -> None:
        merged: list[tuple[float, float]] = []
        for span in sorted(spans, key=lambda f: f.since):
            if merged and span.since <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], span.until))
            else:
                merged.append((span.since, span.until))
        self._since, self._until = [s for s, _ in merged], [u for _, u in merged]

    def meet(self, since: float, until: float) -> bool:
        """Whether any of them overlaps this span."""
        at = bisect_right(self._since, until)
        return at > 0 and self._until[at - 1] >= since
