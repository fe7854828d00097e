"""Budgets over a whole plan: at the limit it passes, one above it the whole set of that scope is held."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, NamedTuple

import pytest

from domain.changes import (
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
    Update,
    plan_hash,
)
from domain.guests import GuestKey
from domain.orders import OrderState
from domain.repair_policy.budget import Budget, Handling
from panel.operators.repair_policy.policies import budget_of, handling_of
from panel.settings import load_settings
from reconcile.decision.decide import plan
from reconcile.decision.gate import GateContext, gate
from tests.unit.reconcile.worlds import NOW, POLICY, guest, order, record, world

BUDGET = Budget()


def delete(number: int, **values: Any) -> Delete:
    return Delete(source="orders", reason="why", record=record(**{"id": number, "user_id": number} | values))


def deletes(count: int, **values: Any) -> tuple[Delete, ...]:
    return tuple(delete(n, **{"node": f"pve{n}"} | values) for n in range(1, count + 1))


def creates(count: int) -> tuple[Create, ...]:
    return tuple(Create(source="orders", reason="why", order=order(order_id=str(n))) for n in range(count))


def owners(count: int) -> tuple[ChangeOwner, ...]:
    return tuple(ChangeOwner(source="orders", reason="why", record=record(id=n)) for n in range(1, count + 1))


def merges(count: int) -> tuple[Change, ...]:
    return tuple(
        Merge(source="orders", reason="why", record=record(id=n), survivor=record(id=1000 + n))
        for n in range(1, count + 1)
    )


def flips(count: int, cluster: str = "main") -> tuple[SetStatus, ...]:
    return tuple(
        SetStatus(
            source="proxmox",
            reason="why",
            record=record(id=n),
            guest_key=GuestKey(cluster, n),
            flip="to stopped",
        )
        for n in range(1, count + 1)
    )


def turns(count: int) -> tuple[Change, ...]:
    """So many orders that turn the same way, wherever their guests are."""
    return tuple(
        replace(change, source="orders", flip="to suspended", guest_key=GuestKey(f"c{at}", at) if at % 2 else None)
        for at, change in enumerate(flips(count))
    )


class Limit(NamedTuple):
    within: tuple[Change, ...]
    above: tuple[Change, ...]
    context: dict[str, Any]
    scope: str
    reason: str


LIMITS = [
    Limit(deletes(20), deletes(21), {}, "deletes", "deletes in one run"),
    Limit(deletes(3), deletes(4), {"deletes_last_hour": 37}, "deletes", "deletes in an hour"),
    Limit(deletes(1), deletes(2), {"deletes_last_day": 99}, "deletes", "deletes in a day"),
    Limit(deletes(3, node="pve1"), deletes(4, node="pve1"), {}, "deletes:node:main/pve1", "deletes of one small node"),
    Limit(
        deletes(8, node="pve1"),
        deletes(9, node="pve1"),
        {"per_node": {("main", "pve1"): 40}},
        "deletes:node:main/pve1",
        "a fifth of a node",
    ),
    Limit(deletes(1, user_id=5), deletes(2, user_id=5), {}, "deletes:user:5", "deletes of one customer"),
    Limit(
        deletes(4, user_id=5),
        deletes(5, user_id=5),
        {"per_user": {5: 20}},
        "deletes:user:5",
        "a fifth of a customer's",
    ),
    Limit(creates(25), creates(26), {}, "creates", "creates of a small panel"),
    Limit(creates(50), creates(51), {"live": 1000}, "creates", "a twentieth of a large one"),
    Limit(owners(3), owners(4), {}, "ownership", "owners in one run"),
    Limit(owners(1), owners(2), {"owners_last_day": 9}, "ownership", "owners in a day"),
    Limit(merges(10), merges(11), {}, "merges", "merges in one run"),
    Limit(merges(1), merges(2), {"merges_last_day": 39}, "merges", "merges in a day"),
    Limit(flips(5), flips(6), {}, "flips:main:to stopped", "flips of a small cluster"),
    Limit(flips(30), flips(31), {"per_cluster": {"main": 100}}, "flips:main:to stopped", "a third of a cluster"),
    Limit(turns(5), turns(6), {}, "order-flips:orders:to suspended", "a feed's word about a small panel"),
    Limit(turns(30), turns(31), {"live": 100}, "order-flips:orders:to suspended", "a feed's word about a third of all"),
]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda c: c.reason)
def test_limits(limit: Limit) -> None:
    context = GateContext(**{"live": 0} | limit.context)
    other = (SetSize(source="orders", reason="why", record=record(id=999)),)
    within = gate(ChangePlan(limit.within + other, ()), context, BUDGET)
    assert (within.allowed, within.held) == (limit.within + other, ()), limit.reason
    above = gate(ChangePlan(limit.above + other, ()), context, BUDGET)
    assert above.allowed == other, "the whole set is held, and nothing else"
    assert [(h.scope, h.changes) for h in above.held] == [(limit.scope, limit.above)]


def test_twelve_missed_creates_at_once_pass_by_the_default_limits_of_a_small_fleet() -> None:
    numbers = range(100, 112)
    shown = world(
        orders=tuple(order(order_id=str(n), vmid=n, name=f"web-{n}") for n in numbers),
        guests=tuple(guest(vmid=n, fingerprint=f"smbios:{n}") for n in numbers),
    )
    made = plan(shown, POLICY)
    settings = load_settings(_env_file=None)
    gated = gate(made, GateContext(live=12), budget_of(settings), handling_of(settings))
    assert [change.kind for change in gated.allowed] == [Kind.CREATE] * 12
    assert gated.held == ()


def test_flips_of_another_cluster_are_another_set() -> None:
    gated = gate(ChangePlan(flips(6) + flips(5, "second"), ()), GateContext(live=0), BUDGET)
    assert gated.allowed == flips(5, "second")


class TestABreachHoldsItsOwnScope:
    """A customer or a node with too many deletes holds up nobody else, unless there are too many at all."""

    THEIRS = tuple(delete(n, user_id=5, node=f"pve{n}") for n in (1, 2))
    OTHERS = tuple(delete(n, node=f"pve{n}") for n in range(11, 30))

    def test_one_customer_holds_up_no_other(self) -> None:
        gated = gate(ChangePlan((*self.THEIRS, *self.OTHERS[:18]), ()), GateContext(live=1000), BUDGET)
        assert gated.allowed == self.OTHERS[:18]
        assert [(h.scope, h.changes) for h in gated.held] == [("deletes:user:5", self.THEIRS)]

    def test_one_node_holds_up_no_other(self) -> None:
        there = deletes(4, node="pve1")
        gated = gate(ChangePlan((*there, *self.OTHERS[:16]), ()), GateContext(live=1000), BUDGET)
        assert gated.allowed == self.OTHERS[:16]
        assert [(h.scope, h.changes) for h in gated.held] == [("deletes:node:main/pve1", there)]

    def test_too_many_at_all_are_one_question(self) -> None:
        gated = gate(ChangePlan((*self.THEIRS, *self.OTHERS), ()), GateContext(live=1000), BUDGET)
        assert [(h.scope, h.changes) for h in gated.held] == [("deletes", (*self.THEIRS, *self.OTHERS))]

    def test_what_is_held_does_not_count_as_done_within_the_hour(self) -> None:
        plan = ChangePlan((*self.THEIRS, *self.OTHERS[:1]), ())
        assert gate(plan, GateContext(live=1000, deletes_last_hour=39), BUDGET).allowed == self.OTHERS[:1]
        gated = gate(plan, GateContext(live=1000, deletes_last_hour=40), BUDGET)
        assert [(h.scope, h.changes) for h in gated.held] == [
            ("deletes:user:5", self.THEIRS), ("deletes", self.OTHERS[:1]),
        ]  # fmt: skip

    def test_what_is_of_two_sets_is_asked_about_once(self) -> None:
        there = tuple(delete(n, user_id=5, node="pve1") for n in range(1, 5))
        elsewhere = delete(5, user_id=5, node="pve2")
        gated = gate(ChangePlan((*there, elsewhere), ()), GateContext(live=1000), BUDGET)
        assert [(h.scope, h.changes) for h in gated.held] == [
            ("deletes:node:main/pve1", there), ("deletes:user:5", (elsewhere,)),
        ]  # fmt: skip

    def test_before_the_first_plan_is_acknowledged_all_deletes_are_one_question(self) -> None:
        gated = gate(ChangePlan(self.THEIRS, ()), GateContext(live=5, holds={"deletes": "not acknowledged"}), BUDGET)
        assert [(h.scope, h.reason) for h in gated.held] == [("deletes", "not acknowledged")]


class TestARefusalLasts:
    """What an operator refused never happens by itself, whatever changed since and however long ago it was."""

    WARDED: ClassVar = [
        deletes(1)[0],
        DeleteOrphan(source="orders", reason="why", record=deletes(1)[0].record),
        creates(1)[0],
        owners(1)[0],
        Merge(source="orders", reason="why", record=record(id=1), survivor=record(id=2)),
        Unlink(source="proxmox", reason="why", record=record(id=1)),
    ]

    @pytest.mark.parametrize("change", WARDED, ids=lambda c: c.kind.value)
    def test_it_is_asked_about_anew(self, change: Change) -> None:
        assert change.question is not None
        context = GateContext(live=100, refused=frozenset({change.question}))
        moved_on = replace(change, record=replace(change.record, version=9)) if change.record is not None else change
        gated = gate(ChangePlan((moved_on,), ()), context, BUDGET)
        assert (gated.allowed, [h.scope for h in gated.held]) == ((), ["rejected-before"])
        assert "fewer operators approved it than are needed now" in gated.held[0].reason, "SECOND_APPROVAL_ABOVE fell"
        approved = replace(context, approved=frozenset({plan_hash((moved_on,))}))
        assert gate(ChangePlan((moved_on,), ()), approved, BUDGET).allowed == (moved_on,)
        refused = replace(context, rejected=frozenset({plan_hash((moved_on,))}))
        assert gate(ChangePlan((moved_on,), ()), refused, BUDGET).rejected == (moved_on,)

    def test_a_delete_is_a_delete_for_whatever_reason(self) -> None:
        (change,) = deletes(1)
        orphan = DeleteOrphan(source="orders", reason="why", record=change.record)
        assert change.question == orphan.question == "delete vps:1"

    def test_it_uses_up_no_limit(self) -> None:
        changes = deletes(21)
        context = GateContext(live=100, refused=frozenset({"delete vps:1"}))
        assert gate(ChangePlan(changes, ()), context, BUDGET).allowed == changes[1:]

    @pytest.mark.parametrize("made", [SetStatus, SetSize, Link])
    def test_facts_turn_to_and_fro(self, made: type[Update]) -> None:
        assert made(source="orders", reason="why", record=record()).question is None


@pytest.mark.parametrize("state", [OrderState.SUSPENDED, OrderState.ENDED], ids=str)
def test_a_feed_that_turns_all_orders_at_once_is_asked_twice(state: OrderState) -> None:
    numbers = range(100, 120)
    shown = world(
        orders=tuple(order(order_id=str(n), vmid=n, state=state, status="from one run to the next") for n in numbers),
        guests=tuple(guest(vmid=n, fingerprint=f"smbios:{n}") for n in numbers),
        records=tuple(record(id=n, order_id=str(n), vmid=n, fingerprint=f"smbios:{n}") for n in numbers),
    )
    made = plan(shown, POLICY)
    scope = f"order-flips:{shown.feed}:to {state.value}"
    gated = gate(made, GateContext(live=20), BUDGET)
    assert [(h.scope, len(h.changes)) for h in gated.held] == [(scope, 20)]
    assert not any("order_state" in change.values for change in gated.allowed)
    assert gate(made, GateContext(live=20, waited=frozenset({scope})), BUDGET).held == ()


def test_orders_that_are_set_up_turn_no_way() -> None:
    """After an outage of the main site's calls many become active at once."""
    shown = world(orders=(order(),), guests=(guest(),), records=(record(order_state=OrderState.PENDING),))
    (change,) = (c for c in plan(shown, POLICY).changes if "order_state" in c.values)
    assert isinstance(change, SetStatus)
    assert change.flip is None


def test_flips_wait_one_further_run() -> None:
    waited = GateContext(live=0, waited=frozenset({"flips:main:to stopped"}))
    assert gate(ChangePlan(flips(6), ()), waited, BUDGET).held == ()


def test_an_approval_lets_through_exactly_what_was_seen() -> None:
    changes = deletes(21)
    approved = GateContext(live=0, approved=frozenset(plan_hash((c,)) for c in changes))
    assert gate(ChangePlan(changes, ()), approved, BUDGET).allowed == changes
    moved_on = (delete(1, version=4, node="pve1"), *changes[1:])
    gated = gate(ChangePlan(moved_on, ()), approved, BUDGET)
    assert gated.allowed == moved_on, "one that is not approved is within the budget by itself"
    many = tuple(delete(n, version=4, node=f"pve{n}") for n in range(1, 22))
    assert gate(ChangePlan(many, ()), approved, BUDGET).allowed == ()


def test_circumstances_hold_a_whole_class() -> None:
    context = GateContext(live=5, holds={"deletes": "not acknowledged"})
    gated = gate(ChangePlan(deletes(1) + creates(1), ()), context, BUDGET)
    assert gated.allowed == creates(1)
    assert gated.held[0].reason == "not acknowledged"


def test_orphans_and_missed_deletes_share_a_budget() -> None:
    orphans = tuple(
        DeleteOrphan(source="orders", reason="why", record=record(id=100 + n, user_id=100 + n, node=f"x{n}"))
        for n in range(11)
    )
    assert gate(ChangePlan(deletes(10) + orphans, ()), GateContext(live=0), BUDGET).allowed == ()


def test_the_hash_does_not_depend_on_the_order() -> None:
    changes = deletes(3)
    assert plan_hash(changes) == plan_hash(tuple(reversed(changes)))
    assert plan_hash(changes) != plan_hash(changes[:2])


def test_what_an_operator_refused_is_neither_done_nor_asked_again() -> None:
    changes = deletes(3)
    refused = GateContext(live=0, rejected=frozenset({plan_hash(changes[:1])}))
    gated = gate(ChangePlan(changes, ()), refused, BUDGET)
    assert (gated.allowed, gated.held, gated.rejected) == (changes[1:], (), changes[:1])


def test_what_an_operator_refused_does_not_count_against_the_limits() -> None:
    changes = deletes(21)
    refused = GateContext(live=0, rejected=frozenset({plan_hash(changes[:1])}))
    assert gate(ChangePlan(changes, ()), refused, BUDGET).allowed == changes[1:]


class TestPolicy:
    """Per class: repair, hold or ignore."""

    PLAN = ChangePlan(deletes(1) + creates(1) + owners(1), ())

    def test_hold_asks_for_each_item(self) -> None:
        gated = gate(self.PLAN, GateContext(live=0), BUDGET, {Kind.DELETE: Handling.HOLD})
        assert gated.allowed == creates(1) + owners(1)
        assert [(h.scope, h.changes) for h in gated.held] == [("class:missed-delete", deletes(1))]

    def test_an_approval_lets_a_held_class_through(self) -> None:
        approved = GateContext(live=0, approved=frozenset({plan_hash(deletes(1))}))
        assert gate(self.PLAN, approved, BUDGET, {Kind.DELETE: Handling.HOLD}).allowed == self.PLAN.changes

    def test_ignore_wins_over_an_approval(self) -> None:
        approved = GateContext(live=0, approved=frozenset({plan_hash(deletes(1))}))
        gated = gate(self.PLAN, approved, BUDGET, {Kind.DELETE: Handling.IGNORE})
        assert (gated.allowed, gated.held, gated.ignored) == (creates(1) + owners(1), (), deletes(1))

    def test_a_held_class_does_not_use_up_a_limit(self) -> None:
        orphan = DeleteOrphan(source="orders", reason="why", record=record(id=900, user_id=900, node="x"))
        gated = gate(ChangePlan((*deletes(20), orphan), ()), GateContext(live=0), BUDGET, {Kind.ORPHAN: Handling.HOLD})
        assert gated.allowed == deletes(20)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"record": record(id=1, version=9)}, id="the record moved on"),
        pytest.param({"values": {"user_id": 7}}, id="another owner"),
        pytest.param({"flip": "to running"}, id="the other way"),
        pytest.param({"evidence": {"guest": "main/100"}}, id="another kind of evidence"),
        pytest.param({"values": {"order_state": "ended"}}, id="another state"),
        pytest.param({"values": {"cpu": 64}}, id="another plan"),
        pytest.param({"values": {"missing_since": None}}, id="a time that is taken back"),
        pytest.param({"guest_key": GuestKey("main", 101)}, id="another guest"),
        pytest.param({"values": {"fingerprint": "smbios:b"}}, id="another machine"),
    ],
)
def test_an_approval_is_for_one_verdict_on_one_version(changed: dict[str, Any]) -> None:
    written = {"order_state": "suspended", "cpu": 4, "missing_since": NOW, "order_changed_at": NOW}
    written |= {"fingerprint": "smbios:a"}
    change = replace(flips(1)[0], values=written)
    if "values" in changed:
        changed = {"values": written | changed["values"]}
    assert plan_hash((replace(change, **changed),)) != plan_hash((change,))


def test_an_approval_is_for_one_class_of_change_and_one_survivor() -> None:
    said: dict[str, Any] = {"source": "orders", "reason": "why", "record": record(id=1)}
    merged = [Merge(**said, survivor=record(id=n)) for n in (2, 8)]
    changes = [made(**said) for made in (Link, SetStatus, SetSize, ChangeOwner, Unlink, SellOn, Delete, DeleteOrphan)]
    assert len({plan_hash((change,)) for change in (*merged, *changes)}) == 10


def test_an_approval_outlives_another_reading_of_the_same() -> None:
    (change,) = owners(1)
    told = replace(change, reason="told otherwise", values={"order_changed_at": NOW})
    again = replace(change, values={"order_changed_at": NOW + timedelta(minutes=2)})
    assert plan_hash((told,)) == plan_hash((again,))


def test_an_approved_delete_is_for_one_order() -> None:
    (change,) = deletes(1)
    one, other = (replace(change, order=order(order_id=n)) for n in ("1", "900"))
    assert plan_hash((one,)) != plan_hash((other,))


def test_an_approved_create_is_no_other_for_its_guest_being_started_or_moved() -> None:
    (change,) = creates(1)
    columns = {"cpu": 4, "vmid": 100, "power_state": "stopped", "node": "pve1"}
    one = replace(change, values=columns)
    other = replace(change, values=columns | {"power_state": "running", "node": "pve2"})
    assert plan_hash((one,)) == plan_hash((other,))
    assert plan_hash((one,)) != plan_hash((replace(one, values=columns | {"vmid": 101}),))
