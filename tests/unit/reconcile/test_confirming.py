"""Each question that a change may ask has a look-up, and its answer a name in the journal that stays."""

from __future__ import annotations

import pytest

from domain import confirmations as asks
from domain.changes import Unlink
from reconcile.confirming import Confirmer
from tests.support.stand_ins.no_database import NO_DATABASE
from tests.unit.reconcile.worlds import KEY, order, record

RECORD = record()
NO_ORDER = "no order could be looked up: none is known, or the main site is paused or not configured"
QUESTIONS: dict[asks.Confirmation, tuple[str, str]] = {
    asks.OrderIsOver("1"): ("order", NO_ORDER),
    asks.OrderGoesOn("1", order()): ("order", NO_ORDER),
    asks.OrderNamesGuest("1", order(), KEY, or_none=True): ("order", NO_ORDER),
    asks.OrderNamesOwner("1", "1"): ("order", NO_ORDER),
    asks.OrderNamesSurvivor("1", order()): ("order", NO_ORDER),
    asks.NextOrderNamesGuest("2", KEY): ("claimant", NO_ORDER),
    asks.GuestIsGone(RECORD, KEY, (), order_ended=True): ("guest", "cluster main cannot be asked now"),
    asks.PaidGuestIsMissing(RECORD, KEY, ()): ("guest", "cluster main cannot be asked now"),
    asks.GuestLeftItsAddress(RECORD, KEY): ("left", "cluster main cannot be asked now"),
    asks.OneGuestIsGone((RECORD, RECORD), ()): ("either", "cluster main cannot be asked now"),
    asks.GuestIsTheSameMachine(RECORD, KEY): ("same", f"guest {KEY} cannot be asked now"),
}


def test_none_is_forgotten() -> None:
    named = {one for one in vars(asks).values() if isinstance(one, type) and issubclass(one, asks.Confirmation)}
    assert {type(one) for one in QUESTIONS} == named - {asks.Confirmation, asks.OrderConfirmation}


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda one: type(one).__name__)
def test_what_cannot_be_asked_is_not_confirmed(asked: asks.Confirmation) -> None:
    everywhere = frozenset({KEY.cluster})
    nobody = Confirmer(NO_DATABASE, None, {}, everywhere, everywhere)
    change = Unlink(source="orders", reason="why", record=RECORD, confirm=(asked,))
    assert nobody.hindrance(change) == (QUESTIONS[asked][1], {})
    assert asked.word == QUESTIONS[asked][0], "callers read confirmed_<word>"
