"""Limits over a whole plan, before the first write. A breach holds all changes of that scope as one set. Pure.

A reconciler that is wrong is wrong about many machines at once; these limits turn a catastrophe into a question.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from domain.changes import Change, ChangeOwner, ChangePlan, Create, Delete, Kind, Merge, SetStatus, plan_hash

T = TypeVar("T")


class Handling(StrEnum):
    """What an operator wants done with a class of drift."""

    REPAIR = "repair"
    HOLD = "hold"  # each item waits for an approval
    IGNORE = "ignore"


REJECTED_BEFORE = "rejected-before"
"""The scope of changes that an operator refused before. They changed since, or the refusal ran out. Each needs a new
approval."""

BY_APPROVAL = "by-approval"
"""How the scope of a change begins that nothing proves; its subject follows (``by-approval:vps:12``). Each such change
is a held set of its own, because an operator has to judge each by itself."""

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
    creates_min: int = 25
    creates_share: float = 0.05
    flips_min: int = 5
    flips_share: float = 0.30
    owners_run: int = 3
    owners_day: int = 10
    merges_run: int = 10
    merges_day: int = 40
    pushed_deletes_hour: int = 20  # by calls of the main site: more than that is a finding, never held


@dataclass(frozen=True, slots=True)
class GateContext:
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
    refused: frozenset[str] = frozenset()  # questions (Change.question) whose last answer ever was a refusal
    filling: datetime | None = None  # when an operator allowed the first filling: orders known then may have records
    waited: frozenset[str] = frozenset()  # flip scopes that were held in the previous run already


@dataclass(frozen=True, slots=True)
class Held:
    """One held set: its scope, the sentence why it is held, its changes and their hash."""

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


def gate(
    plan: ChangePlan, context: GateContext, budget: Budget, handling: Mapping[Kind, Handling] = REPAIR_ALL
) -> Gated:
    """Split a plan into what may be applied now and what may not. A class without ``handling`` is repaired."""
    ignored: list[Change] = []
    rejected: list[Change] = []
    classes: dict[Kind, list[Change]] = defaultdict(list)
    refused_before: list[Change] = []
    held: list[Held] = []
    open_: list[tuple[Change, bool]] = []
    for change in plan.changes:
        identity, how = plan_hash((change,)), handling.get(change.kind, Handling.REPAIR)
        approved = identity in context.approved
        if how is Handling.IGNORE:
            ignored.append(change)
        elif identity in context.rejected:
            rejected.append(change)
        elif isinstance(change, Delete) and change.asks is not None and not approved:
            held.append(Held(f"{BY_APPROVAL}:{change.subject}", change.asks, (change,)))
        elif change.question in context.refused and not approved:
            refused_before.append(change)
        elif how is Handling.HOLD and not approved:
            classes[change.kind].append(change)
        else:
            open_.append((change, approved))
    held += [
        Held(f"class:{kind.value}", f"the policy holds every {kind.value}", tuple(changes))
        for kind, changes in sorted(classes.items())
    ]
    if refused_before:
        reason = "an operator rejected it before; since then it changed, or the rejection ran out"
        held.append(Held(REJECTED_BEFORE, reason, tuple(refused_before)))
    measured = [change for change, approved in open_ if not approved and not _fills(change, context)]
    held += _over_budget(measured, context, budget)
    stopped = {id(change) for held_set in held for change in held_set.changes}
    allowed = tuple(change for change, _ in open_ if id(change) not in stopped)
    return Gated(allowed, tuple(held), tuple(rejected), tuple(ignored))


def _fills(change: Change, context: GateContext) -> bool:
    """Whether it is a create of the first filling: its order, owner and map were known when an operator allowed it."""
    allowed = context.filling
    if not isinstance(change, Create) or allowed is None or change.order.first_seen_at is None:
        return False
    order = change.order
    return all(t is None or t <= allowed for t in (order.first_seen_at, order.owner_since, order.mapped_at))


def _over_budget(changes: list[Change], context: GateContext, budget: Budget) -> list[Held]:
    held = _held_deletes([change for change in changes if isinstance(change, Delete)], context, budget)
    scopes: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        if (scope := _scope(change)) is not None:
            scopes[scope].append(change)
    for scope, waiting in sorted(scopes.items()):
        reason = context.holds.get(scope) or _breach(scope, waiting, context, budget)
        if reason is not None:
            held.append(Held(scope, reason, tuple(waiting)))
    return held


def _held_deletes(deletes: list[Change], context: GateContext, budget: Budget) -> list[Held]:
    """All deletes, if there are too many in this run. Otherwise those of each node or customer that has too many, and
    the rest if they would be too many together with those of the last hour or day."""
    count = len(deletes)
    whole = context.holds.get("deletes") or _over("deletes in one run", count, budget.deletes_run)
    if whole is not None:
        return [Held("deletes", whole, tuple(deletes))] if deletes else []
    held: list[Held] = []
    rest = {id(change): change for change in deletes}
    for scope, over, breaching in _narrow_breaches(deletes, context, budget):
        # A delete that belongs to two such sets is held in the first one only.
        if waiting := tuple(change for change in breaching if rest.pop(id(change), None) is not None):
            held.append(Held(scope, over, waiting))
    late = _over("deletes in an hour", len(rest) + context.deletes_last_hour, budget.deletes_hour) or _over(
        "deletes in a day", len(rest) + context.deletes_last_day, budget.deletes_day
    )
    if rest and late is not None:
        held.append(Held("deletes", late, tuple(rest.values())))
    return held


def _narrow_breaches(
    deletes: list[Change], context: GateContext, budget: Budget
) -> Iterator[tuple[str, str, tuple[Change, ...]]]:
    """(scope, sentence, changes) of every node, then every customer, with too many deletes in this run."""
    for node, on_it in _by(lambda change: change.node, deletes):
        name = "/".join(node)
        limit = max(budget.deletes_node_min, int(context.per_node.get(node, 0) * budget.deletes_node_share))
        if (over := _over(f"deletes on node {name} in one run", len(on_it), limit)) is not None:
            yield f"deletes:node:{name}", over, on_it
    for user_id, of_them in _by(lambda change: change.user_id, deletes):
        limit = max(budget.deletes_user_min, int(context.per_user.get(user_id, 0) * budget.deletes_user_share))
        if (over := _over(f"deletes of customer {user_id} in one run", len(of_them), limit)) is not None:
            yield f"deletes:user:{user_id}", over, of_them


def _by(key: Callable[[Change], T | None], changes: Iterable[Change]) -> list[tuple[T, tuple[Change, ...]]]:
    groups: dict[T, list[Change]] = defaultdict(list)
    for change in changes:
        if (subject := key(change)) is not None:
            groups[subject].append(change)
    return [(subject, tuple(groups[subject])) for subject in sorted(groups, key=str)]


def _scope(change: Change) -> str | None:
    match change:
        case Create():
            return "creates"
        case ChangeOwner():
            return "ownership"
        case Merge():
            return "merges"
        case SetStatus(flip=str(flip), source="proxmox"):
            return f"flips:{change.guest_key.cluster}:{flip}" if change.guest_key is not None else None
        case SetStatus(flip=str(flip)):
            return f"order-flips:{change.source}:{flip}"
    return None


def _breach(scope: str, changes: list[Change], context: GateContext, budget: Budget) -> str | None:
    match scope.split(":"):
        case ["creates"]:
            limit = max(budget.creates_min, int(context.live * budget.creates_share))
            return _over("creates in one run", len(changes), limit)
        case ["ownership"]:
            return _over("changes of owner in one run", len(changes), budget.owners_run) or _over(
                "changes of owner in a day", len(changes) + context.owners_last_day, budget.owners_day
            )
        case ["merges"]:
            return _over("merges in one run", len(changes), budget.merges_run) or _over(
                "merges in a day", len(changes) + context.merges_last_day, budget.merges_day
            )
        case ["flips", cluster, _]:
            what, among = (
                f"power states of cluster {cluster} turning the same way",
                context.per_cluster.get(cluster, 0),
            )
        case ["order-flips", feed, _]:
            what, among = f"records turning the same way by the word of {feed}", context.live
        case _:
            return None
    over = _over(what, len(changes), max(budget.flips_min, int(among * budget.flips_share)))
    return None if scope in context.waited else over


def _over(what: str, count: int, limit: int) -> str | None:
    return f"{count} {what}, the limit is {limit}" if count > limit else None
