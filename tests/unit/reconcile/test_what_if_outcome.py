"""A plan that two policies were measured against is summed up: what differs, what is held and why, what matters."""

from __future__ import annotations

from collections.abc import Mapping

from domain.changes import Change, ChangePlan, Delete, DeleteOrphan, Kind, SetSize, plan_hash
from domain.repair_policy.budget import Budget, Handling
from panel.operators.repair_policy.outcome import ClassFates, Fates, HeldThen, Most, Moved, Outcome, loaded, stored
from panel.records.labels import VpsLabel
from reconcile.decision.gate import GateContext, gate
from reconcile.what_if import ALONE, MATTER, outcome_of
from tests.unit.reconcile.worlds import record


def orphans(count: int, first: int = 1) -> tuple[Change, ...]:
    numbers = range(first, first + count)
    return tuple(
        DeleteOrphan(source="orders", reason=f"gone {n}", record=record(id=n, user_id=n, node=f"pve{n}"))
        for n in numbers
    )


def sizes(count: int) -> tuple[Change, ...]:
    return tuple(SetSize(source="orders", reason="larger", record=record(id=n, user_id=5)) for n in range(1, count + 1))


HELD: Mapping[Kind, Handling] = {Kind.ORPHAN: Handling.HOLD}
REPAIRED: Mapping[Kind, Handling] = {Kind.ORPHAN: Handling.REPAIR}
LABELS = {"vps:1": VpsLabel("web-01", 1, "ann", "main"), "vps:2": VpsLabel("web-02", 9, "bob", "main")}


def tried(
    changes: tuple[Change, ...],
    now: Mapping[Kind, Handling] = HELD,
    then: Mapping[Kind, Handling] = REPAIRED,
    context: GateContext | None = None,
) -> Outcome:
    plan, context = ChangePlan(changes, ()), context or GateContext(live=100)
    gated = gate(plan, context, Budget(), now), gate(plan, context, Budget(), then)
    return outcome_of(plan, gated, (now, then), LABELS)


def test_what_is_held_by_its_class_would_be_applied() -> None:
    outcome = tried(orphans(2) + sizes(3))
    assert outcome.moved == [Moved("orphan", "held", "applied", 2)]
    assert outcome.held == []
    assert outcome.total == ClassFates("all", then=Fates(applied=5), now=Fates(applied=3, held=2))
    assert [one.kind for one in outcome.classes] == ["plan", "orphan"]
    assert outcome.classes[1] == ClassFates("orphan", then=Fates(applied=2), now=Fates(held=2))
    assert (outcome.policy_now["orphan"], outcome.policy["orphan"], outcome.policy["plan"]) == ("hold", *["repair"] * 2)
    assert outcome.plan == plan_hash(orphans(2) + sizes(3))


def test_a_limit_holds_what_the_class_does_not_hold_any_more() -> None:
    outcome = tried(orphans(21))
    assert outcome.moved == []
    assert outcome.held == [HeldThen("deletes", "21 deletes in one run, the limit is 20", 21, 0)]
    assert {(one.now, one.then, one.held_by) for one in outcome.matter} == {("held", "held", "deletes")}


def test_what_needs_an_approval_of_its_own_is_one_reason() -> None:
    alone = tuple(
        Delete(source="orders", reason="why", record=record(id=n), asks=f"nothing proves {n}") for n in (1, 2, 3)
    )
    assert tried(alone).held == [HeldThen("by-approval", ALONE, 3, 3)]


def test_ignored_and_rejected_changes_have_a_fate_too() -> None:
    first, *rest = orphans(4)
    context = GateContext(live=100, rejected=frozenset({plan_hash((first,))}))
    outcome = tried((first, *rest), HELD, {Kind.ORPHAN: Handling.IGNORE}, context)
    assert outcome.total == ClassFates("all", then=Fates(ignored=4), now=Fates(held=3, rejected=1))
    assert {(one.now, one.count) for one in outcome.moved} == {("held", 3), ("rejected", 1)}
    assert (outcome.clusters, outcome.customers) == ([], []), "what is left alone is nobody's"


def test_what_matters_comes_first_with_its_customer() -> None:
    outcome = tried(sizes(12) + orphans(2))
    assert [one.subject for one in outcome.matter[:2]] == ["vps:1", "vps:2"], "what differs comes first"
    assert len(outcome.matter) == MATTER
    first, second = outcome.matter[:2]
    assert (first.name, first.user_id, first.username, first.clusters) == ("web-01", 1, "ann", ["main"])
    assert second.username is None, "the label is of another customer than the change"
    assert outcome.clusters == [Most("main", 14)]
    assert outcome.customers[0] == Most("user 5", 12)


def test_it_is_stored_and_read_again() -> None:
    outcome = tried(orphans(21) + sizes(2))
    assert loaded(stored(outcome)) == outcome
