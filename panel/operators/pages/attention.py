"""What an operator should look at first: open alarms and warnings that nobody has acknowledged, and dead calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from panel.journal.dead_letters import list_dead
from panel.operators.findings import FindingCount, FindingFilter, FindingView, count_findings, list_findings

MATTER = 10
"""How many things an overview names."""

OF_A_CLASS = 3
"""How many findings of one class it names, so that a thousand of one do not hide the others."""

LOOKED_AT = 50
"""How many of a class are looked through for those that nobody has acknowledged."""

NOTHING_TO_DO = frozenset({"paused", "rejected"})
"""Classes of findings that only tell of an operator's own decision."""

DEAD_CALLS = "dead-calls"
"""The class of the entry that stands for all dead calls. It is no class of findings."""


@dataclass(frozen=True, slots=True)
class Matter:
    """One thing to look at. ``class_``: of the findings, or DEAD_CALLS. ``finding``: None for dead calls. ``others``:
    how many more there are of this class, where it is the last one that is named; of dead calls: besides one."""

    class_: str
    severity: str
    finding: FindingView | None
    others: int


def matters(connection: Connection, counts: list[FindingCount] | None = None) -> list[Matter]:
    """The MATTER things to look at first: alarms, dead calls, warnings; of each class the oldest first.

    ``counts``: from ``count_findings``, if it was read already."""
    counts = count_findings(connection) if counts is None else counts
    found = [
        *_of_severity(connection, counts, "alarm"),
        *_dead(connection),
        *_of_severity(connection, counts, "warning"),
    ]
    return found[:MATTER]


def _of_severity(connection: Connection, counts: list[FindingCount], severity: str) -> Iterator[Matter]:
    for count in counts:
        if count.severity != severity or count.class_ in NOTHING_TO_DO:
            continue
        listed = list_findings(connection, FindingFilter(count.class_), limit=LOOKED_AT)
        fresh = [one for one in listed if one.severity == severity and one.acknowledged_by is None][:OF_A_CLASS]
        for place, finding in enumerate(fresh, 1):
            others = count.open - len(fresh) if place == len(fresh) else 0
            yield Matter(count.class_, severity, finding, others)


def _dead(connection: Connection) -> Iterator[Matter]:
    if dead := list_dead(connection, limit=1000):
        yield Matter(DEAD_CALLS, "alarm", None, len(dead) - 1)
