"""Check every answer against the promises to callers: it comes, in time, and a 503 says when to try again. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from lab.chaos.calls import MarkedCall
from lab.chaos.phases import Failing

ANSWER_S = 2.0
"""How long an answer may take, also while parts fail."""

_AWAY = frozenset({"database_away", "outcome_unknown", "overloaded"})
_IN_FLIGHT = "idempotency_key_in_flight"


def broken_answers(
    calls: Iterable[MarkedCall],
    away: Sequence[Failing],
    dead: Sequence[Failing],
    stalls: Sequence[Failing] = (),
    most_s: float = ANSWER_S,
) -> Iterator[str]:
    """Sentences about answers that no caller should have got.

    ``away``: the times in which the database failed; only then may an answer be a 503. ``dead``: from each kill of an
    API until the next one listened; only then may an answer be missing. ``stalls``: when the machine itself stood
    still; an answer may be a 503 then, or late.
    """
    database, api, machine = _Times((*away, *stalls)), _Times(dead), _Times(stalls)
    for call in calls:
        if call.status is None:
            if not api.meet(call.at, call.at + call.took_s):
                yield f"a call had no answer after {call.took_s:.1f} s, though no API was killed"
            continue
        reply = f"{call.status} {call.code}" if call.code else f"{call.status}"
        if call.took_s >= most_s and not machine.meet(call.at, call.at + call.took_s):
            yield f"an answer ({reply}) took {call.took_s:.1f} s"
        if call.status == 503:
            if not database.meet(call.at, call.at + call.took_s):
                yield f"an answer was {reply}, though the database was well"
            if call.code not in _AWAY or not (call.retry_after or "").isdigit() or int(call.retry_after or 0) < 1:
                yield f"an answer was {reply} with Retry-After {call.retry_after}"
        elif call.operation is None and not (call.keyed and call.code == _IN_FLIGHT):
            yield f"an answer was {reply}"


class _Times:
    """Times in which a part failed, merged for quick look-ups."""

    def __init__(self, spans: Iterable[Failing]) -> None:
        merged: list[tuple[float, float]] = []
        for span in sorted(spans, key=lambda f: f.since):
            if merged and span.since <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], span.until))
            else:
                merged.append((span.since, span.until))
        self._since, self._until = [s for s, _ in merged], [u for _, u in merged]

    def meet(self, since: float, until: float) -> bool:
        """Whether one of the times overlaps this one."""
        at = bisect_right(self._since, until)
        return at > 0 and self._until[at - 1] >= since
