"""Limits over a whole plan, before the first write. A breach holds all changes of that scope as one set. Pure.

A reconciler that is wrong is wrong about many machines at once; these limits turn a catastrophe into a question.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from domain.changes import Change, ChangeOwner, ChangePlan, Create, Delete, Kind, Merge, SetStatus, plan_hash
from domain.repair_policy.budget import BY_APPROVAL, Budget, Handling
from domain.repair_policy.delete_limits import DELETES, DeleteMeasures, over, share_of, too_many

REJECTED_BEFORE = "rejected-before"
"""The scope of changes that an operator refused before. They changed since, or the refusal ran out, or the approval
that followed is not enough for the number of today. Each needs a new approval."""
WHY_REJECTED_BEFORE = (
    "an operator rejected it before; since then it changed, or the rejection ran out, or fewer operators approved it "
    "than are needed now"
)

REPAIR_ALL: Mapping[Kind, Handling] = MappingProxyType({})


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
    approvers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by whom, for the journal
    rejected: frozenset[str] = frozenset()  # and those that an operator refused
    refused: frozenset[str] = frozenset()  # questions (Change.question) whose last answer ever was a refusal
    filling: datetime | None = None  # when an operator allowed the first filling: orders known then may have records
    waited: frozenset[str] = frozenset()  # flip scopes that were held in the previous run already


@dataclass(frozen=True, slots=True)
class Held:
    """One held set: its scope, the sentence why it is held, its changes and their hash. ``needs_second``: it takes two
    operators to approve it; the run that asks says so."""

    scope: str
    reason: str
    changes: tuple[Change, ...]
    needs_second: bool = False

    @property
    def hash(self) -> str:
        return plan_hash(self.changes)


@dataclass(frozen=True, slots=True)
class Gated:
    """What may be applied, what is held, what an operator refused, and what the policy leaves alone. ``approvers``: by
    the identity of a change, the operators who approved it."""

    allowed: tuple[Change, ...]
    held: tuple[Held, ...]
    rejected: tuple[Change, ...] = ()
    ignored: tuple[Change, ...] = ()
    approvers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def approvers_of(self, change: Change) -> list[str]:
        """Who approved this change; nobody where the limits let it through."""
        return list(self.approvers.get(plan_hash((change,)), ())) if self.approvers else []


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
        held.append(Held(REJECTED_BEFORE, WHY_REJECTED_BEFORE, tuple(refused_before)))
    measured = [change for change, approved in open_ if not approved and not _fills(change, context)]
    held += _over_budget(measured, context, budget)
    stopped = {id(change) for held_set in held for change in held_set.changes}
    allowed = tuple(change for change, _ in open_ if id(change) not in stopped)
    return Gated(allowed, tuple(held), tuple(rejected), tuple(ignored), context.approvers)


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
    if deletes and (whole := context.holds.get(DELETES)) is not None:
        return [Held(DELETES, whole, tuple(deletes))]

    def on_node(node: tuple[str, str]) -> int:
        return share_of(budget.deletes_node_min, context.per_node.get(node, 0), budget.deletes_node_share)

    def of_user(user_id: int) -> int:
        return share_of(budget.deletes_user_min, context.per_user.get(user_id, 0), budget.deletes_user_share)

    measures = DeleteMeasures(context.deletes_last_hour, context.deletes_last_day, on_node, of_user)
    return [Held(one.scope, one.reason, one.deletes) for one in too_many(deletes, measures, budget)]


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
            limit = share_of(budget.creates_min, context.live, budget.creates_share)
            return over("creates in one run", len(changes), limit)
        case ["ownership"]:
            return over("changes of owner in one run", len(changes), budget.owners_run) or over(
                "changes of owner in a day", len(changes) + context.owners_last_day, budget.owners_day
            )
        case ["merges"]:
            return over("merges in one run", len(changes), budget.merges_run) or over(
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
    exceeded = over(what, len(changes), share_of(budget.flips_min, among, budget.flips_share))
    return None if scope in context.waited else exceeded
