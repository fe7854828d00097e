"""A large set that was decided lately costs nobody anything who looks at other items."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import pytest
from sqlalchemy import Engine, text

from panel.operators.approvals import stored_words
from panel.operators.approvals.second_operator import Standing, Word, standing
from panel.operators.approvals.stored_words import load_standings
from panel.operators.holds import held_about, held_set, held_subjects, list_holds, with_approvals
from panel.operators.reports.drift import DriftRow
from panel.operators.reports.drift_fates import fates
from tests.integration.panel.operators.approvals.test_two_operators import (
    ABOVE,
    ANN,
    BOB,
    approve,
    hold,
    reject,
    released,
)
from tests.support.fleets.hoster import Hoster

LARGE = range(1, 61)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many words each item has that somebody looks at."""
    found: list[int] = []

    def counted(words: Iterable[Word], now: datetime) -> Standing:
        listed = list(words)
        found.append(len(listed))
        return standing(listed, now)

    monkeypatch.setattr(stored_words, "standing", counted)
    return found


@pytest.fixture
def small(engine: Engine) -> str:
    """A large set was approved by two and a larger one rejected. A small one is open. It shares an item with both."""
    large = hold(engine, *LARGE)
    for by in (ANN, BOB):
        approve(engine, large, by)
    reject(engine, hold(engine, *LARGE, 61), ANN)
    return hold(engine, 1, 70, 71)


DIFFERS = DriftRow(1, "web", 5, "ann", None, None, None, ["missed-status"], [])
LOOKS: dict[str, Callable[[Engine, str], object]] = {
    "a look at the list": lambda engine, _: _in(engine, lambda c: with_approvals(c, list_holds(c), ABOVE)),
    "a look at the set": lambda engine, hash_: _in(engine, lambda c: with_approvals(c, [held_set(c, hash_)], ABOVE)),
    "a look at a record": lambda engine, _: _in(engine, lambda c: held_about(c, ["vps:70"], ABOVE)),
    "a look at a record of the large set": lambda engine, _: _in(engine, lambda c: held_about(c, ["vps:60"], ABOVE)),
    "which records are held": lambda engine, _: _in(engine, lambda c: held_subjects(c, ["vps:1", "vps:60"])),
    "a page of what differs": lambda engine, _: _in(engine, lambda c: fates(c, [DIFFERS], {})),
    "an approval": lambda engine, hash_: approve(engine, hash_, BOB),
    "a rejection": lambda engine, hash_: reject(engine, hash_, BOB),
}


def _in(engine: Engine, look: Callable[..., object]) -> object:
    with engine.begin() as connection:
        return look(connection)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_only_the_items_that_are_shown_are_judged(
    engine: Engine, small: str, judged: list[int], look: Callable[[Engine, str], object]
) -> None:
    judged.clear()
    look(engine, small)
    assert len(judged) <= 6, "three items, before an approval and after it"


def test_a_run_judges_only_what_it_plans_and_once(engine: Engine, small: str, judged: list[int]) -> None:
    del small
    hoster = Hoster(engine)
    hoster.open()
    hoster.sell(4)
    judged.clear()
    hoster.full(3)
    assert judged == [], "of the creates nobody said anything"


def test_an_item_has_the_same_standing_whatever_else_is_asked_for(engine: Engine, small: str) -> None:
    del small
    every = "SELECT DISTINCT item ->> 'hash' FROM holds h, jsonb_array_elements(h.items) AS item"
    with engine.connect() as connection:
        hashes = list(connection.scalars(text(every)))
        together = load_standings(connection, ABOVE, hashes).by_item
        alone = [load_standings(connection, ABOVE, [hash_]).by_item for hash_ in hashes]
    assert {hash_: found for one in alone for hash_, found in one.items()} == together
    assert (len(together), released(engine)) == (61, 0), "of 70 and 71 nobody said anything; the rest was rejected"


def test_which_of_these_records_are_held(engine: Engine, small: str) -> None:
    del small
    with engine.connect() as connection:
        assert held_subjects(connection, ["vps:1", "vps:60", "vps:70"]) == {"vps:1", "vps:70"}
