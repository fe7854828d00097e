"""The limits of deletes: of a run, of one node, of one customer, of an hour and of a day. Pure.

The gate measures a plan by them, and the replay of past deletes measures the same way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from domain.repair_policy.budget import Budget

K = TypeVar("K")

DELETES = "deletes"
"""The scope of deletes that are too many in all."""


class Counted(Protocol):
    """A delete, as the limits see it."""

    @property
    def node(self) -> tuple[str, str] | None:
        """(cluster, node) whose limit it counts against."""
        ...

    @property
    def user_id(self) -> int | None:
        """The customer whose limit it counts against."""
        ...


D = TypeVar("D", bound=Counted)


class DeleteLimit(StrEnum):
    """Which limit was exceeded."""

    RUN = "run"
    NODE = "node"
    CUSTOMER = "customer"
    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class DeleteMeasures:
    """What deletes are measured against. ``last_hour``, ``last_day``: how many were made lately. ``on_node``,
    ``of_user``: how many one run may delete there."""

    last_hour: int
    last_day: int
    on_node: Callable[[tuple[str, str]], int]
    of_user: Callable[[int], int]


@dataclass(frozen=True, slots=True)
class TooMany(Generic[D]):
    """Deletes that exceed one limit together."""

    limit: DeleteLimit
    scope: str
    reason: str
    deletes: tuple[D, ...]


def too_many(deletes: Sequence[D], measures: DeleteMeasures, budget: Budget) -> list[TooMany[D]]:
    """All deletes of a run, if there are too many. Otherwise those of each node or customer that has too many, and the
    rest if they would be too many together with those of the last hour or day."""
    whole = over("deletes in one run", len(deletes), budget.deletes_run)
    if whole is not None:
        return [TooMany(DeleteLimit.RUN, DELETES, whole, tuple(deletes))]
    rest = {id(delete): delete for delete in deletes}
    # A delete that belongs to two such sets is held in the first one only.
    found = [
        TooMany(narrow.limit, narrow.scope, narrow.reason, waiting)
        for narrow in _narrow(deletes, measures)
        if (waiting := tuple(delete for delete in narrow.deletes if rest.pop(id(delete), None) is not None))
    ]
    if rest and (late := _late(len(rest), measures, budget)) is not None:
        limit, reason = late
        found.append(TooMany(limit, DELETES, reason, tuple(rest.values())))
    return found


def _late(count: int, measures: DeleteMeasures, budget: Budget) -> tuple[DeleteLimit, str] | None:
    if (hour := over("deletes in an hour", count + measures.last_hour, budget.deletes_hour)) is not None:
        return DeleteLimit.HOUR, hour
    if (day := over("deletes in a day", count + measures.last_day, budget.deletes_day)) is not None:
        return DeleteLimit.DAY, day
    return None


def _narrow(deletes: Sequence[D], measures: DeleteMeasures) -> Iterator[TooMany[D]]:
    """Every node, then every customer, with too many deletes in this run."""
    for node, on_it in _by(lambda delete: delete.node, deletes):
        name = "/".join(node)
        if (reason := over(f"deletes on node {name} in one run", len(on_it), measures.on_node(node))) is not None:
            yield TooMany(DeleteLimit.NODE, f"{DELETES}:node:{name}", reason, on_it)
    for user_id, of_them in _by(lambda delete: delete.user_id, deletes):
        limit = measures.of_user(user_id)
        if (reason := over(f"deletes of customer {user_id} in one run", len(of_them), limit)) is not None:
            yield TooMany(DeleteLimit.CUSTOMER, f"{DELETES}:user:{user_id}", reason, of_them)


def _by(key: Callable[[D], K | None], deletes: Iterable[D]) -> list[tuple[K, tuple[D, ...]]]:
    groups: dict[K, list[D]] = defaultdict(list)
    for delete in deletes:
        if (subject := key(delete)) is not None:
            groups[subject].append(delete)
    return [(subject, tuple(groups[subject])) for subject in sorted(groups, key=str)]


def share_of(least: int, count: int, share: float) -> int:
    """A limit that is a share of ``count`` records, and ``least`` at least."""
    return max(least, int(count * share))


def over(what: str, count: int, limit: int) -> str | None:
    """The sentence that a limit is exceeded; None if it is not."""
    return f"{count} {what}, the limit is {limit}" if count > limit else None
