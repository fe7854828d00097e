"""Parts of a world that cannot matter to each other, and plans that leave out what fails and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain import failures
from domain.changes import ChangePlan, Kind
from domain.failures import Broken, Failure, Stage
from domain.left_out import LeftOut
from domain.orders import OrderState
from domain.records import LinkState
from reconcile.decision import failure_isolation
from reconcile.decision.cases import Case, Policy, World
from reconcile.decision.decide import Decision, decide, plan
from reconcile.decision.failure_isolation import isolated_plan, isolated_power, parts, subjects_in, without
from tests.unit.reconcile.arbitrary import worlds
from tests.unit.reconcile.disturbed import disturbed
from tests.unit.reconcile.worlds import POLICY, UNLINKED, ago, asks, guest, order, record, world

ANYTHING = LeftOut(unnamed=None, disputed=True)

many = settings(max_examples=60, deadline=None)
anything = st.one_of(worlds(), disturbed())


def said(made: ChangePlan) -> Counter[str]:
    """What a plan says, in any order."""
    return Counter([*map(str, made.changes), *map(str, made.findings)])


@many
@given(anything)
def test_where_nothing_fails_nothing_changes(seen: World) -> None:
    made = isolated_plan(seen, POLICY, {}, {})
    assert made.plan == plan(seen, POLICY)
    assert made.failures == []


@many
@given(anything)
def test_a_world_is_cut_without_loss_and_its_parts_say_what_the_whole_says(seen: World) -> None:
    """But for what could be anybody's: twins and rebuilt machines need to know of every guest and order."""
    seen = replace(seen, left_out=ANYTHING)
    cut = parts(seen)
    assert sum(len(p.orders) + len(p.guests) + len(p.records) for p in cut) == len(seen.orders) + len(
        seen.guests
    ) + len(seen.records)
    together: Counter[str] = Counter()
    for part in cut:
        together += said(plan(part, POLICY))
    assert together == said(plan(seen, POLICY))


@many
@given(anything, st.data())
def test_without_one_object_the_rest_is_planned_as_ever(seen: World, data: st.DataObject) -> None:
    known = sorted(subjects_in(seen))
    assume(known)
    one = data.draw(st.sampled_from(known))
    made = isolated_plan(seen, POLICY, {one: Stage.LOAD}, {})
    assert one in made.left_out
    assert made.failures == []
    assert said(made.plan) <= said(plan(seen, POLICY)) | said(plan(replace(seen, left_out=ANYTHING), POLICY))
    gone = {subject for part in without(seen, {one})[1] for subject in subjects_in(part)}
    assert gone <= made.left_out
    for change in made.plan.changes:  # of what waits for a lock, the order's facts are planned all the same
        assert not change.subjects & gone


@many
@given(anything, st.data())
def test_a_case_that_raises_costs_its_own_changes_only(seen: World, data: st.DataObject) -> None:
    known = sorted(f"vps:{r.id}" for r in seen.records if r.live)
    assume(known)
    one = data.draw(st.sampled_from(known))

    def failing(case: Case, shown: World, policy: Policy) -> Decision:
        if one in failure_isolation.case_subjects(case):
            raise ValueError("a name that must not be kept")
        return decide(case, shown, policy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failure_isolation, "decide", failing)
        made = isolated_plan(seen, POLICY, {}, {})
    assert {f.stage for f in made.failures} == {Stage.DECIDE}
    assert "must not be kept" not in str(made.failures)
    lost = said(plan(seen, POLICY)) - said(made.plan)
    assert said(made.plan) <= said(plan(seen, POLICY))
    assert all(any(s.split(":", 1)[1] in line for s in made.left_out) for line in lost)


@pytest.mark.parametrize("left_out", ["held back", "broken"])
def test_a_guest_that_nobody_names_may_be_a_twins_own(left_out: str) -> None:
    """Two records of one order are merged only if no guest could be the second's: one that was not read might be."""
    loose = record(
        id=2, order_id=None, order_linked_once=False, created_at=ago(days=20, seconds=-9), **UNLINKED,
    )  # fmt: skip
    seen = world(orders=(order(),), guests=(guest(),), records=(record(), loose))
    assert [c.kind for c in isolated_plan(seen, POLICY, {}, {}).plan.changes] == [Kind.MERGE]
    subject = "guest:main/777"
    if left_out == "broken":
        made = isolated_plan(seen, POLICY, {}, {subject: Broken("ValueError in state.py:1", frozenset({subject}))})
    else:
        more = replace(seen, guests=(*seen.guests, guest(vmid=777, name="web", fingerprint="smbios:z")))
        made = isolated_plan(more, POLICY, {subject: Stage.LOAD}, {})
    assert [(c.kind, asks(c) is None) for c in made.plan.changes] == [(Kind.ORPHAN, False)], (
        "only an operator may say so"
    )
    assert [(f.class_, f.vps_id) for f in made.plan.findings] == [("unlinked-record", 2)]


GUESTLESS = order(
    order_id="2", user_id=6, owner="6", name="other", cluster=None, node=None, vmid=None, created_at=ago(hours=1)
)
DISPUTED = record(**UNLINKED | {"id": 2, "user_id": 6, "order_id": "2", "link_state": LinkState.CONFLICT})
MACHINED = record(id=2, user_id=6, order_id="2", vmid=102, fingerprint="smbios:2")
ELSEWHERE: dict[str, Any] = {"hypervisor": "vmware"}
CAUSE = "ValueError in state.py:1"


@pytest.mark.parametrize(
    ("more", "held_back", "broken", "links"),
    [
        pytest.param({}, {}, (), True, id="nothing was left out"),
        pytest.param({"orders": (GUESTLESS,)}, {}, ("vps:9",), False, id="a record of its customer is broken"),
        pytest.param({"orders": (GUESTLESS,)}, {"order:2": Stage.LOAD}, (), False, id="it was held back"),
        pytest.param({"records": (DISPUTED,)}, {"vps:2": Stage.MATCH}, (), False, id="one in dispute was held back"),
        pytest.param({}, {}, ("order:2",), False, id="an order is broken"),
        pytest.param({}, {"vps:2": Stage.LOAD}, ("vps:2",), False, id="a record is broken, and known to be"),
        pytest.param(
            {"orders": (replace(GUESTLESS, **ELSEWHERE),)}, {"order:2": Stage.LOAD}, (), True, id="on no Proxmox"
        ),
        pytest.param(
            {"orders": (replace(GUESTLESS, state=OrderState.ENDED),)}, {"order:2": Stage.LOAD}, (), True, id="it ended"
        ),
        pytest.param(
            {"orders": (GUESTLESS,), "records": (MACHINED,)},
            {"order:2": Stage.LOAD},
            (),
            True,
            id="its record has its machine",
        ),
    ],
)
def test_a_machine_made_anew_may_be_whose_order_was_left_out(
    more: dict[str, tuple[Any, ...]], held_back: dict[str, Stage], broken: tuple[str, ...], *, links: bool
) -> None:
    """The next customer's order names no guest yet. It counts, although nothing can be planned for that customer."""
    seen = world(
        orders=(order(), *more.get("orders", ())),
        guests=(guest(fingerprint="smbios:new", fingerprint_since=ago(minutes=10)),),
        records=(record(), *more.get("records", ())),
    )
    rows = {subject: Broken(CAUSE, frozenset({subject, "user:6"})) for subject in broken}
    made = isolated_plan(seen, POLICY, held_back, rows).plan
    assert (Kind.LINK in {c.kind for c in made.changes}) is links
    assert [f.class_ for f in made.findings if f.vps_id == 1] == ([] if links else ["ambiguous"])


def test_a_broken_row_takes_along_what_it_ties_together() -> None:
    one, other, far = (
        record(id=n, user_id=4 + n, order_id=f"o{n}", vmid=100 + n, fingerprint=f"smbios:{n}") for n in (1, 2, 3)
    )
    seen = world(records=(one, other, far))
    broken = Broken("ValueError in state.py:1", frozenset({"order:o9", "user:5", "user:6"}))
    rest, out = without(seen, broken.belongs)
    assert [r.id for r in rest.records] == [3]
    assert {r.id for part in out for r in part.records} == {1, 2}
    made = isolated_plan(seen, POLICY, {}, {"order:o9": broken})
    assert made.failures == [Failure("order:o9", Stage.LOAD, "ValueError in state.py:1")]
    assert made.left_out >= {"vps:1", "vps:2", "order:o9"}
    again = isolated_plan(seen, POLICY, {"order:o9": Stage.LOAD}, {"order:o9": broken})
    assert again.failures == [], "held back: not counted again"
    assert again.plan == made.plan


@pytest.mark.parametrize("where", ["match", "decide", "power_plan"])
def test_an_interrupt_is_raised(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class OutOfTimeError(Exception):
        pass

    def late(*_: Any) -> None:
        raise OutOfTimeError

    monkeypatch.setattr(failure_isolation, where, late)
    seen = world(records=(record(),), guests=(guest(),))
    work = partial(isolated_power, [(record(), guest())]) if where == "power_plan" else isolated_plan
    with pytest.raises(OutOfTimeError):
        work(seen, POLICY, {}, {}, (OutOfTimeError,))


def test_a_cause_names_class_and_place() -> None:
    try:
        int("a customer's name")
    except ValueError as error:
        cause = failures.cause_of(error)
    assert cause.startswith("ValueError in test_isolation.py:")
    assert "customer" not in cause
