"""A machine that is, or may be, somebody else's: no record takes its identity or its power, and none is made for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.changes import Kind
from domain.confirmations import OrderIsOver, OrderNamesGuest
from domain.orders import OrderState
from domain.records import LinkState
from domain.source_protocols import Found, Gone, Unclear
from reconcile import confirming
from reconcile.confirming import Confirmer
from reconcile.decision.decide import plan
from tests.support.stand_ins.no_database import NO_DATABASE
from tests.unit.reconcile.decision.matching.stranger_cases import (
    ENDED,
    GROUPS,
    LOOSE,
    NAMELESS,
    OFF,
    OWN,
    PUSHED,
    THEIRS,
    UNVERIFIED,
    Case,
)
from tests.unit.reconcile.worlds import KEY, POLICY, UNLINKED, ago, asks, guest, order, questions, record, world


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=f"{group}: {c.reason}") for group, cases in GROUPS.items() for c in cases],
)
def test_nothing_of_it_is_written(case: Case) -> None:
    made = plan(case.seen, POLICY)
    said = [(c.kind, c.record.id if c.record is not None else None) for c in made.changes if asks(c) is None]
    assert said == case.changes, [c.reason for c in made.changes]
    assert {f.class_ for f in made.findings} == case.findings


def test_who_was_told_no_order_is_linked_by_an_order_that_is_asked() -> None:
    """An old copy of the feed may name the address; the order says by itself whether it still does."""
    loose = record(**PUSHED, **LOOSE, name="another name")
    (change,) = plan(world(orders=(OWN,), guests=(guest(**OFF),), records=(loose,)), POLICY).changes
    assert (change.kind, change.order, questions(change)) == (Kind.LINK, OWN, (OrderNamesGuest,))


def test_a_record_whose_order_ended_and_that_gave_up_its_guest_unseen_waits_for_an_approval() -> None:
    disputed = record(**UNLINKED | {"link_state": LinkState.CONFLICT}, order_state=OrderState.ENDED)
    made = plan(world(orders=(ENDED, THEIRS), guests=(guest(),), records=(disputed,)), POLICY)
    (change,) = [c for c in made.changes if c.action == "delete"]
    assert (change.record, questions(change)) == (disputed, (OrderIsOver,))
    assert asks(change) is not None


def test_an_order_read_before_the_call_is_asked_what_it_names_by_now() -> None:
    told = record(**PUSHED | {"link_changed_at": ago(seconds=12)})
    seen = world(orders=(order(vmid=105, effective_at=ago(seconds=15)),), guests=(guest(),), records=(told,))
    (change,) = plan(seen, POLICY).changes
    assert (change.kind, change.guest_key, questions(change)) == (Kind.LINK, KEY, (OrderNamesGuest,))


RIVAL = order(order_id="2", name="other")
UNLINKS = world(orders=(ENDED, RIVAL), guests=(guest(),), records=(record(**UNVERIFIED, order_state=OrderState.ENDED),))


@pytest.mark.parametrize(
    ("now", "why"),
    [
        pytest.param(Found(RIVAL), None, id="it is its guest"),
        pytest.param(
            Found(replace(RIVAL, vmid=105)), "order 2 is running and names main/105 by now", id="not any more"
        ),
        pytest.param(
            Found(replace(RIVAL, **NAMELESS)), "order 2 is running and names no guest by now", id="it names none"
        ),
        pytest.param(
            Found(replace(RIVAL, state=OrderState.ENDED, status="cancelled")),
            "order 2 is cancelled and names main/100 by now",
            id="it ended",
        ),
        pytest.param(Gone("404"), "order 2 is gone by now", id="it is gone"),
        pytest.param(Unclear("503"), "order 2 could not be confirmed: 503", id="nobody can say"),
    ],
)
def test_a_guest_is_given_up_when_the_order_that_claims_it_says_so_itself(
    monkeypatch: pytest.MonkeyPatch, now: Any, why: str | None
) -> None:
    class Feed:
        def order(self, order_id: str, control: str | None) -> Any:
            assert (order_id, control) == ("2", "9")
            return now

    monkeypatch.setattr(confirming, "control_order", lambda *_, **__: "9")
    (change,) = [c for c in plan(UNLINKS, POLICY).changes if c.kind is Kind.UNLINK]
    feed: Any = Feed()
    confirmer = Confirmer(NO_DATABASE, feed, {}, frozenset(), frozenset())
    assert confirmer.hindrance(change)[0] == why
    nobody = Confirmer(NO_DATABASE, None, {}, frozenset(), frozenset())
    assert str(nobody.hindrance(change)[0]).startswith("no order could be looked up: ")
