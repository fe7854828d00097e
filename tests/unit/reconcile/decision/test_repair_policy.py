"""REPAIR_POLICY: each class of drift, times repair, hold and ignore, through the gate."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import pytest

from domain.changes import (
    DELETES,
    Change,
    ChangeOwner,
    ChangePlan,
    Create,
    Delete,
    DeleteOrphan,
    Kind,
    Link,
    Merge,
    SellOn,
    SetSize,
    SetStatus,
    Unlink,
    plan_hash,
)
from domain.guests import GuestKey
from domain.repair_policy.budget import Budget, Handling
from panel.operators.repair_policy.policies import handling_of
from panel.settings import DriftClass, Settings
from reconcile.decision.gate import GateContext, Gated, gate
from tests.unit.reconcile.worlds import order, record

CHANGES: dict[Kind, type[Any]] = {
    made.kind: made
    for made in (Link, SetStatus, SetSize, ChangeOwner, Merge, Unlink, SellOn, Create, Delete, DeleteOrphan)
}
ASKED = {Kind.SOLD_ON: Handling.HOLD}
CLASSES = [kind for kind in Kind if kind is not Kind.LINK]


def change(kind: Kind, number: int) -> Change:
    """A change of that class, far from every limit."""
    if kind is Kind.CREATE:
        return Create(source="orders", reason="why", order=order(order_id=str(number), user_id=number))
    about = record(id=number, user_id=number, node=f"pve{number}")
    more = {"survivor": record(id=5000 + number)} if kind is Kind.MERGE else {}
    made: Change = CHANGES[kind](
        source="orders", reason="why", record=about, guest_key=GuestKey("main", number), **more
    )
    return made


PLAN = ChangePlan(tuple(change(kind, 10 * at + n) for at, kind in enumerate(Kind, 1) for n in (1, 2)), ())


def of(kind: Kind) -> tuple[Change, ...]:
    return tuple(c for c in PLAN.changes if c.kind is kind)


def rest(kind: Kind) -> tuple[Change, ...]:
    return tuple(c for c in PLAN.changes if c.kind is not kind)


def gated(kind: Kind, how: Handling, *, approved: tuple[Change, ...] = (), rejected: tuple[Change, ...] = ()) -> Gated:
    context = GateContext(
        live=100,
        approved=frozenset(plan_hash((c,)) for c in approved),
        rejected=frozenset(plan_hash((c,)) for c in rejected),
    )
    return gate(PLAN, context, Budget(), {kind: how})


def test_every_class_may_be_set_but_links_which_only_write_down_what_belongs_together() -> None:
    assert set(get_args(DriftClass)) == {kind.value for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES, ids=str)
@pytest.mark.parametrize("how", list(Handling), ids=str)
def test_the_setting_is_what_the_gate_is_told(kind: Kind, how: Handling) -> None:
    settings = Settings.model_validate({"repair_policy": {kind.value: how.value}})
    assert handling_of(settings) == ASKED | {kind: how}


def test_a_machine_goes_to_another_customer_by_a_word_unless_that_class_is_named() -> None:
    for policy in ({}, {"all": "repair"}):
        assert handling_of(Settings.model_validate({"repair_policy": policy}))[Kind.SOLD_ON] is Handling.HOLD
    named = Settings.model_validate({"repair_policy": {"sold-on": "repair", "all": "hold"}})
    assert handling_of(named)[Kind.SOLD_ON] is Handling.REPAIR


class TestAll:
    """ "all" speaks for every class that is not named, links too: a panel that looks on and writes nothing."""

    @pytest.mark.parametrize("how", [Handling.HOLD, Handling.IGNORE], ids=str)
    def test_no_class_is_written(self, how: Handling) -> None:
        handling = handling_of(Settings.model_validate({"repair_policy": {"all": how.value}}))
        found = gate(PLAN, GateContext(live=100), Budget(), handling)
        assert found.allowed == ()
        assert {c.kind for c in (*found.ignored, *(c for h in found.held for c in h.changes))} == set(Kind)

    def test_a_class_that_is_named_goes_by_its_own_word(self) -> None:
        policy = {"all": "hold", "missed-status": "repair", "orphan": "ignore"}
        handling = handling_of(Settings.model_validate({"repair_policy": policy}))
        assert handling[Kind.STATUS] is Handling.REPAIR
        assert handling[Kind.ORPHAN] is Handling.IGNORE
        assert {how for kind, how in handling.items() if kind not in (Kind.STATUS, Kind.ORPHAN)} == {Handling.HOLD}


@pytest.mark.parametrize("kind", CLASSES, ids=str)
class TestEachClass:
    def test_repair_writes_it_with_all_others(self, kind: Kind) -> None:
        assert gated(kind, Handling.REPAIR) == Gated(PLAN.changes, ())

    def test_hold_asks_for_all_of_it_as_one_set_and_holds_nothing_else(self, kind: Kind) -> None:
        found = gated(kind, Handling.HOLD)
        assert (found.allowed, found.ignored, found.rejected) == (rest(kind), (), ())
        (held,) = found.held
        assert (held.scope, held.changes, held.hash) == (f"class:{kind.value}", of(kind), plan_hash(of(kind)))
        assert kind.value in held.reason

    def test_hold_lets_an_approved_item_through_and_asks_on_for_the_other(self, kind: Kind) -> None:
        one, other = of(kind)
        found = gated(kind, Handling.HOLD, approved=(one,))
        assert found.allowed == tuple(c for c in PLAN.changes if c is not other)
        assert [h.changes for h in found.held] == [(other,)]

    def test_hold_asks_no_more_for_a_rejected_item(self, kind: Kind) -> None:
        one, other = of(kind)
        found = gated(kind, Handling.HOLD, rejected=(one,))
        assert (found.allowed, found.rejected, found.ignored) == (rest(kind), (one,), ())
        assert [h.changes for h in found.held] == [(other,)]

    @pytest.mark.parametrize("word", ["approved", "rejected", "neither"])
    def test_ignore_neither_writes_it_nor_asks_whatever_was_said_of_it(self, kind: Kind, word: str) -> None:
        said = {} if word == "neither" else {word: of(kind)}
        assert gated(kind, Handling.IGNORE, **said) == Gated(rest(kind), (), (), of(kind))


class Limit(NamedTuple):
    kind: Kind
    scope: str
    flood: int


LIMITED = [
    Limit(Kind.DELETE, "deletes", 21),
    Limit(Kind.ORPHAN, "deletes", 21),
    Limit(Kind.CREATE, "creates", 26),
    Limit(Kind.OWNER, "ownership", 4),
]


@pytest.mark.parametrize("limit", LIMITED, ids=lambda one: one.kind.value)
def test_a_policy_never_lifts_a_limit_nor_uses_one_up(limit: Limit) -> None:
    flood = tuple(change(limit.kind, 1000 + n) for n in range(limit.flood))
    plan, context = ChangePlan(flood, ()), GateContext(live=0)
    assert [h.scope for h in gate(plan, context, Budget(), {limit.kind: Handling.REPAIR}).held] == [limit.scope]
    held = gate(plan, context, Budget(), {limit.kind: Handling.HOLD}).held
    assert [(h.scope, h.changes) for h in held] == [(f"class:{limit.kind.value}", flood)]
    assert gate(plan, context, Budget(), {limit.kind: Handling.IGNORE}) == Gated((), (), (), flood)


def test_holding_deletes_of_one_class_leaves_the_other_to_its_limit() -> None:
    assert {Kind.DELETE, Kind.ORPHAN} == DELETES
    flood = tuple(change(Kind.ORPHAN, 1000 + n) for n in range(21))
    both = ChangePlan((*of(Kind.DELETE), *flood), ())
    found = gate(both, GateContext(live=0), Budget(), {Kind.DELETE: Handling.HOLD})
    assert [(h.scope, h.changes) for h in found.held] == [
        ("class:missed-delete", of(Kind.DELETE)),
        ("deletes", flood),
    ]
