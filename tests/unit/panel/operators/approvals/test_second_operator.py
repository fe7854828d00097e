"""Whose words count on an item, and when they release it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.changes import Kind
from panel.operators.approvals.second_operator import (
    APPROVED_FOR,
    TAKES_NOTHING,
    Word,
    is_above,
    proven_name,
    standing,
    taking,
)

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


def yes(by: str, hours: float, *, second: bool = True) -> Word:
    """An approval so many hours ago. ``second``: of a set that needs two operators."""
    return Word(by, NOW - timedelta(hours=hours), approves=True, second=second)


def no(by: str, hours: float) -> Word:
    """A rejection so many hours ago."""
    return Word(by, NOW - timedelta(hours=hours), approves=False)


ANN, BOB, ROOT = "api:ann", "api:bob", "cli:root"
OPEN, RELEASED, REJECTED = (False, False), (True, False), (False, True)


@pytest.mark.parametrize(
    ("words", "comes_to"),
    [
        pytest.param([], OPEN, id="nobody said anything"),
        pytest.param([yes(ANN, 1, second=False)], RELEASED, id="below the number one is enough"),
        pytest.param([yes(ROOT, 1, second=False)], RELEASED, id="below the number a command is enough"),
        pytest.param([yes(ANN, 1)], OPEN, id="above it one is not"),
        pytest.param([yes(ANN, 1), yes(BOB, 0)], RELEASED, id="two are"),
        pytest.param([yes(ANN, 1), yes(ANN, 0)], OPEN, id="the same operator twice is one"),
        pytest.param([yes(ANN, 1), yes("cli:ann", 0)], OPEN, id="a command proves no second operator"),
        pytest.param([yes(ANN, 1), yes(ROOT, 0)], OPEN, id="nor does one under another name"),
        pytest.param([yes(ROOT, 1), yes(ANN, 0)], OPEN, id="nor one that came first"),
        pytest.param([yes(ROOT, 2), yes(ANN, 1), yes(BOB, 0)], RELEASED, id="but it does not spoil two"),
        pytest.param([yes(ANN, 25), yes(BOB, 0)], OPEN, id="the first one ended after a day"),
        pytest.param([yes(ANN, 24), yes(BOB, 0)], OPEN, id="to the second"),
        pytest.param([yes(ANN, 23.9), yes(BOB, 0)], RELEASED, id="not before"),
        pytest.param([yes(ANN, 1), yes(ANN, 0, second=False)], OPEN, id="the set shrank below the number: still two"),
        pytest.param([yes(ANN, 1), yes(BOB, 0, second=False)], RELEASED, id="and the second operator saw the smaller"),
        pytest.param([yes(ANN, 25), yes(ANN, 0, second=False)], RELEASED, id="a day later it is a small set"),
        pytest.param([yes(ANN, 2), no(ANN, 1)], REJECTED, id="the first one is taken back"),
        pytest.param([yes(ANN, 2), no(ANN, 1), yes(BOB, 0)], REJECTED, id="what was taken back does not count again"),
        pytest.param([yes(ANN, 3), no(BOB, 2), yes(ANN, 1), yes(BOB, 0)], RELEASED, id="both say yes after a no"),
        pytest.param([yes(ANN, 2), yes(BOB, 1), no("cli:eve", 0)], REJECTED, id="anybody may say no, to two as well"),
        pytest.param([no(ANN, 1), yes(BOB, 1, second=False)], REJECTED, id="at the same moment no is no"),
        pytest.param([no(ANN, 600)], REJECTED, id="a rejection is not over after a day"),
        pytest.param([no(ANN, 50), yes(BOB, 30)], REJECTED, id="one of two lifts no rejection"),
        pytest.param([no(ANN, 90), yes(ANN, 60), yes(BOB, 30)], REJECTED, id="nor do two that never held together"),
        pytest.param(
            [no(ANN, 50), yes(BOB, 30, second=False)], OPEN, id="it was lifted, and the approval is over: ask again"
        ),
        pytest.param([no(ANN, 50), yes(ANN, 31), yes(BOB, 30)], OPEN, id="by two as well"),
        pytest.param(
            [no(ANN, 90), yes(ANN, 60), yes(ANN, 50, second=False)], OPEN, id="and where a small set needs one again"
        ),
    ],
)
def test_what_the_words_on_an_item_come_to(words: list[Word], comes_to: tuple[bool, bool]) -> None:
    for said in (words, words[::-1]):
        found = standing(said, NOW)
        assert (found.released, found.rejected) == comes_to


WORDS = st.lists(
    st.builds(
        Word,
        by=st.sampled_from([ANN, BOB, "api:eve", ROOT, "cli:ann"]),
        at=st.integers(0, 48 * 60).map(lambda minutes: NOW - timedelta(minutes=minutes)),
        approves=st.booleans(),
        second=st.booleans(),
    ),
    max_size=8,
)


@given(WORDS)
def test_nothing_is_released_by_one_where_two_are_needed(words: list[Word]) -> None:
    found = standing(words, NOW)
    refusals = [word.at for word in words if not word.approves]
    counting = [
        word
        for word in words
        if word.approves and NOW - word.at < APPROVED_FOR and word.at >= max(refusals, default=word.at)
    ]
    if found.released and any(word.second for word in found.approvals):
        assert len({word.by for word in counting if word.by.startswith("api:")}) >= 2
    if found.released:
        assert counting
    assert not (found.released and found.rejected)


@given(WORDS, st.integers(1, 60))
def test_a_rejection_at_last_releases_nothing(words: list[Word], seconds: int) -> None:
    last = Word(ANN, NOW + timedelta(seconds=seconds), approves=False)
    found = standing([*words, last], NOW + timedelta(minutes=2))
    assert (found.released, found.rejected) == (False, True)


def test_what_counts_against_the_number() -> None:
    counted = {kind.value for kind in Kind} - TAKES_NOTHING
    assert counted == {"missed-delete", "orphan", "duplicate", "ownership", "sold-on", "replaced-guest"}
    assert taking([{"kind": kind.value} for kind in Kind]) == 6
    assert taking([{"kind": "a class of a later version"}]) == 1, "what is not known counts"


@pytest.mark.parametrize(
    ("count", "above", "needed"),
    [(0, None, False), (10_000, None, False), (0, 0, False), (1, 0, True), (5, 5, False), (6, 5, True)],
)
def test_above_the_number(count: int, above: int | None, needed: bool) -> None:
    assert is_above(count, above) is needed


def test_only_a_key_proves_a_name() -> None:
    assert [proven_name(by) for by in (ANN, ROOT, "ann", "")] == ["ann", None, None, None]
