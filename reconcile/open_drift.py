"""What a run saw and did not mend: how many differences of each class, and since when. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from domain.changes import Change
from reconcile.decision.drift_since import drift_since


def open_drift(
    changes: Iterable[Change], done: Collection[int], now: datetime, mend_within: timedelta
) -> dict[str, dict[str, Any]]:
    """Counts for the run log, by class of drift: ``open``, how many of these were open for longer than ``mend_within``
    (``open_late``), and since when the oldest is (``open_since``; left out if nothing tells). ``done``: the ``id`` of
    the changes that were written, or that an operator wants left as they are."""
    left = [change for change in changes if id(change) not in done]
    since: dict[str, datetime] = {}
    late: Counter[str] = Counter()
    for change in left:
        began, kind = drift_since(change), change.kind.value
        if began is not None:
            since[kind] = min(began, since.get(kind, began))
            late[kind] += now - began > mend_within
    return {
        "open": dict(Counter(change.kind.value for change in left)),
        "open_late": dict(+late),
        "open_since": {kind: began.isoformat() for kind, began in since.items()},
    }
