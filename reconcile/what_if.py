"""A what-if: what the next run would do under another repair policy. A dry run makes its plan, and the gate measures
that plan twice, under the present policy and under the other one.

A policy says nothing about which changes are planned, only about which of them pass. So one plan serves both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from domain.changes import DELETES, Change, ChangePlan, Kind
from domain.repair_policy.budget import BY_APPROVAL, Handling
from panel.operators.repair_policy.outcome import ClassFates, Fate, Fates, HeldThen, Most, Moved, Outcome, ShownChange
from panel.records.labels import NO_LABEL, VpsLabel
from reconcile.decision.gate import Gated, Held
from reconcile.decision.subjects import clusters_of
from reconcile.run import Reconciler, RunResult, run_full

MATTER, TOP, REASONS = 10, 5, 20
"""How many changes, clusters or customers, and reasons of held changes an outcome names."""

ALONE = "each needs an approval of its own, because nothing proves it"


@dataclass(frozen=True, slots=True)
class Tried:
    """A what-if. ``result``: of the dry run. ``outcome``: None if it came to no plan (busy, paused, fenced)."""

    result: RunResult
    outcome: Outcome | None


def try_policy(reconciler: Reconciler, asked: str, handling: Mapping[Kind, Handling]) -> Tried:
    """Plan a run under another policy. ``asked``: the policy in one line, for the run log. ``handling``: how it handles
    each class. It leaves a row in the run log, of the kind ``plan``, and nothing else."""
    result = run_full(reconciler, trigger=f"what-if {asked}", dry=True, under=handling)
    if result.plan is None or result.gated is None or result.under is None:
        return Tried(result, None)
    outcome = outcome_of(result.plan, (result.gated, result.under), (reconciler.handling, handling), result.labels)
    to_read = result.counts.get("guests_to_read", 0)
    return Tried(result, replace(outcome, problems=list(result.problems), guests_to_read=to_read))


def outcome_of(
    plan: ChangePlan,
    gated: tuple[Gated, Gated],
    handlings: tuple[Mapping[Kind, Handling], Mapping[Kind, Handling]],
    labels: Mapping[str, VpsLabel],
) -> Outcome:
    """Sum up what becomes of a plan. ``gated``, ``handlings``: under the present policy, and under the other one."""
    now, then = (_fates(one) for one in gated)
    pairs = Counter((change.kind, now[id(change)], then[id(change)]) for change in plan.changes)
    kinds = [kind for kind in Kind if any(pair[0] is kind for pair in pairs)]
    listed = _held(gated)
    left = [change for change in plan.changes if then[id(change)] != "ignored"]
    return Outcome(
        policy=_policy(handlings[1]),
        policy_now=_policy(handlings[0]),
        plan=plan.hash,
        problems=[],
        guests_to_read=0,
        total=_class_fates("all", pairs),
        classes=[_class_fates(kind.value, pairs, kind) for kind in kinds],
        moved=[Moved(k.value, a, b, count) for (k, a, b), count in sorted(pairs.items()) if a != b],
        held=listed[:REASONS],
        held_more=max(0, len(listed) - REASONS),
        matter=_matter(plan.changes, now, then, _held_by(gated[1]), labels),
        clusters=_most(cluster for change in left for cluster in clusters_of(change)),
        customers=_most(_customer(change, labels) for change in left),
    )


def _fates(gated: Gated) -> dict[int, Fate]:
    """The fate of each change, by the identity of the object: both gates were given the same ones."""
    fates: dict[int, Fate] = {id(change): "applied" for change in gated.allowed}
    fates |= {id(change): "held" for held in gated.held for change in held.changes}
    fates |= {id(change): "ignored" for change in gated.ignored}
    return fates | {id(change): "rejected" for change in gated.rejected}


def _held_by(gated: Gated) -> dict[int, str]:
    return {id(change): held.scope for held in gated.held for change in held.changes}


def _class_fates(kind: str, pairs: Mapping[tuple[Kind, Fate, Fate], int], wanted: Kind | None = None) -> ClassFates:
    now, then = Counter[str](), Counter[str]()
    for (of_kind, fate_now, fate_then), count in pairs.items():
        if wanted in (None, of_kind):
            now[fate_now] += count
            then[fate_then] += count
    return ClassFates(kind, Fates(**then), Fates(**now))


def _held(gated: tuple[Gated, Gated]) -> list[HeldThen]:
    """Why changes are held under the other policy, most changes first. Those that each need an approval are one."""
    now, then = (Counter[str](), Counter[str]())
    for counter, one in ((now, gated[0]), (then, gated[1])):
        for held in one.held:
            counter[_reason_scope(held)] += len(held.changes)
    reasons = {_reason_scope(held): ALONE if _alone(held) else held.reason for held in gated[1].held}
    return [HeldThen(scope, reasons[scope], count, now[scope]) for scope, count in then.most_common()]


def _alone(held: Held) -> bool:
    return held.scope.startswith(BY_APPROVAL)


def _reason_scope(held: Held) -> str:
    return BY_APPROVAL if _alone(held) else held.scope


def _matter(
    changes: Iterable[Change],
    now: Mapping[int, Fate],
    then: Mapping[int, Fate],
    held_by: Mapping[int, str],
    labels: Mapping[str, VpsLabel],
) -> list[ShownChange]:
    """The changes that matter most: those whose fate differs first, and of these what removes a record."""

    def rank(change: Change) -> tuple[bool, int]:
        return now[id(change)] == then[id(change)], rank_of(change.kind)

    shown = []
    for change in sorted(changes, key=rank)[:MATTER]:
        label = labels.get(change.subject, NO_LABEL)
        name = label.name or change.values.get("name")
        user_id = _user(change)
        shown.append(
            ShownChange(
                kind=change.kind.value,
                action=change.action,
                subject=change.subject,
                now=now[id(change)],
                then=then[id(change)],
                held_by=held_by.get(id(change)),
                reason=change.reason,
                name=name,
                user_id=user_id,
                username=label.username if user_id == label.user_id else None,
                clusters=sorted(clusters_of(change)),
            )
        )
    return shown


def rank_of(kind: str) -> int:
    """How much a change matters: first changes that remove a record, then new owners, then new and unlinked records,
    then the rest."""
    if kind in DELETES or kind == Kind.MERGE:
        return 1
    return 2 if kind == Kind.OWNER else 3 if kind in (Kind.CREATE, Kind.UNLINK) else 5


def _user(change: Change) -> int | None:
    user_id: int | None = change.values.get("user_id") or change.user_id
    return user_id


def _customer(change: Change, labels: Mapping[str, VpsLabel]) -> str | None:
    user_id, label = _user(change), labels.get(change.subject, NO_LABEL)
    if user_id is None:
        return None
    named = f" ({label.username})" if label.username and label.user_id == user_id else ""
    return f"user {user_id}{named}"


def _most(names: Iterable[str | None]) -> list[Most]:
    counts = Counter(name for name in names if name is not None)
    return [Most(name, count) for name, count in counts.most_common(TOP)]


def _policy(handling: Mapping[Kind, Handling]) -> dict[str, str]:
    """What is done with each class."""
    return {kind.value: handling.get(kind, Handling.REPAIR).value for kind in Kind}
