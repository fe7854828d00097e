"""Limits over a whole plan, before the first write. A breach holds all changes of that scope as one set. Pure.

A reconciler that is wrong is wrong about many machines at once; these limits turn a catastrophe into a question.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from reconcile.changes import DELETES, Change, Kind, Plan, plan_hash


class Handling(StrEnum):
    """What an operator wants done with a class of drift."""

    REPAIR = "repair"
    HOLD = "hold"  # each item waits for an approval
    IGNORE = "ignore"


REPAIR_ALL: Mapping[Kind, Handling] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Budget:
    """How many changes of a class may happen; shares are fractions of the records concerned."""

    deletes_run: int = 20
    deletes_hour: int = 40
    deletes_day: int = 100
    deletes_node_min: int = 3
    deletes_node_share: float = 0.20
    deletes_user_min: int = 1
    deletes_user_share: float = 0.20
    creates_min: int = 10
    creates_share: float = 0.05
    flips_min: int = 5
    flips_share: float = 0.30
    owners_run: int = 3
    owners_day: int = 10
    merges_run: int = 10
    merges_day: int = 40


@dataclass(frozen=True, slots=True)
class Standing:
    """What the gate measures a plan against.

    Counts of live records in all, per node, per customer and per cluster; what was done lately; and the
    circumstances that hold whole classes (``holds``: scope -> sentence).
    """

    live: int
    per_node: Mapping[tuple[str, str], int] = field(default_factory=dict)
    per_user: Mapping[int, int] = field(default_factory=dict)
    per_cluster: Mapping[str, int] = field(default_factory=dict)
    deletes_last_hour: int = 0
    deletes_last_day: int = 0
    owners_last_day: int = 0
    merges_last_day: int = 0
    holds: Mapping[str, str] = field(default_factory=dict)
    approved: frozenset[str] = frozenset()  # identities (plan_hash of one change) that an operator approved
    rejected: frozenset[str] = frozenset()  # and those that an operator refused
    waited: frozenset[str] = frozenset()  # flip scopes that were held in the previous run already


@dataclass(frozen=True, slots=True)
class Held:
    """One set that was held: its scope, the sentence why, its changes and their hash."""

    scope: str
    reason: str
    changes: tuple[Change, ...]

    @property
    def hash(self) -> str:
        return plan_hash(self.changes)


@dataclass(frozen=True, slots=True)
class Gated:
    """What may be applied, what is held, what an operator refused, and what the policy leaves alone."""

    allowed: tuple[Change, ...]
    held: tuple[Held, ...]
    rejected: tuple[Change, ...] = ()
    ignored: tuple[Change, ...] = ()


def gate(plan: Plan, standing: Standing, budget: Budget, handling: Mapping[Kind, Handling] = REPAIR_ALL) -> Gated:
    """Split a plan into what may be applied now and what may not. A class without ``handling`` is repaired."""
    ignored: list[Change] = []
    rejected: list[Change] = []
    classes: dict[Kind, list[Change]] = defaultdict(list)
    open_: list[tuple[Change, bool]] = []
    for change in plan.changes:
        identity, how = plan_hash((change,)), handling.get(change.kind, Handling.REPAIR)
        approved = identity in standing.approved
        if how is Handling.IGNORE:
            ignored.append(change)
        elif identity in standing.rejected:
            rejected.append(change)
        elif how is Handling.HOLD and not approved:
            classes[change.kind].append(change)
        else:
            open_.append((change, approved))
    held = [
        Held(f"class:{kind.value}", f"the policy holds every {kind.value}", tuple(changes))
        for kind, changes in sorted(classes.items())
    ]
    held += _over_budget([change for change, approved in open_ if not approved], standing, budget)
    stopped = {id(change) for one in held for change in one.changes}
    allowed = tuple(change for change, _ in open_ if id(change) not in stopped)
    return Gated(allowed, tuple(held), tuple(rejected), tuple(ignored))


def _over_budget(changes: list[Change], standing: Standing, budget: Budget) -> list[Held]:
    scopes: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        for scope in _scopes(change):
            scopes[scope].append(change)
    held: list[Held] = []
    for scope, waiting in sorted(scopes.items()):
        reason = standing.holds.get(scope) or _breach(scope, waiting, standing, budget)
        if reason is not None:
            held.append(Held(scope, reason, tuple(waiting)))
    return held


def _scopes(change: Change) -> tuple[str, ...]:
    if change.kind in DELETES:
        return ("deletes",)
    if change.kind is Kind.CREATE:
        return ("creates",)
    if change.kind is Kind.OWNER:
        return ("ownership",)
    if change.kind is Kind.MERGE:
        return ("merges",)
    if change.flip is not None and change.guest_key is not None:
        return (f"flips:{change.guest_key.cluster}:{change.flip}",)
    return ()


def _breach(scope: str, changes: list[Change], standing: Standing, budget: Budget) -> str | None:
    match scope.split(":"):
        case ["deletes"]:
            return _deletes_breach(changes, standing, budget)
        case ["creates"]:
            limit = max(budget.creates_min, int(standing.live * budget.creates_share))
            return _over("creates in one run", len(changes), limit)
        case ["ownership"]:
            return _over("changes of owner in one run", len(changes), budget.owners_run) or _over(
                "changes of owner in a day", len(changes) + standing.owners_last_day, budget.owners_day
            )
        case ["merges"]:
            return _over("merges in one run", len(changes), budget.merges_run) or _over(
                "merges in a day", len(changes) + standing.merges_last_day, budget.merges_day
            )
        case ["flips", cluster, _]:
            limit = max(budget.flips_min, int(standing.per_cluster.get(cluster, 0) * budget.flips_share))
            over = _over(f"power states of cluster {cluster} turning the same way", len(changes), limit)
            return None if scope in standing.waited else over
    return None


def _deletes_breach(changes: list[Change], standing: Standing, budget: Budget) -> str | None:
    count = len(changes)
    return (
        _over("deletes in one run", count, budget.deletes_run)
        or _over("deletes in an hour", count + standing.deletes_last_hour, budget.deletes_hour)
        or _over("deletes in a day", count + standing.deletes_last_day, budget.deletes_day)
        or _share_breach(
            "on node", (c.node for c in changes), standing.per_node, budget.deletes_node_min, budget.deletes_node_share
        )
        or _share_breach(
            "of customer",
            (c.user_id for c in changes),
            standing.per_user,
            budget.deletes_user_min,
            budget.deletes_user_share,
        )
    )


def _share_breach(
    what: str, subjects: Iterable[object], totals: Mapping[Any, int], minimum: int, share: float
) -> str | None:
    for subject, count in sorted(Counter(s for s in subjects if s is not None).items(), key=str):
        limit = max(minimum, int(totals.get(subject, 0) * share))
        name = "/".join(subject) if isinstance(subject, tuple) else str(subject)
        if (over := _over(f"deletes {what} {name} in one run", count, limit)) is not None:
            return over
    return None


def _over(what: str, count: int, limit: int) -> str | None:
    return f"{count} {what}, the limit is {limit}" if count > limit else None
