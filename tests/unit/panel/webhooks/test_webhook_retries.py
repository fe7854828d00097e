"""When an event is sent again: soon at first, then seldom, and with jitter; a main site that is away is spared."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.webhooks.retries import AWAY, DELAYS_S, GIVEN_UP_AFTER, JITTER, LONGEST_ASKED_S, delay, pause


class Least(random.Random):
    def random(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("attempts", "seconds", "reason"),
    [
        (1, 5, "a restart takes seconds"),
        (2, 30, "a slow restart"),
        (3, 300, "a deployment"),
        (7, 36_000, "the last step"),
        (8, 36_000, "and the same from then on"),
        (10**6, 36_000, "however often"),
    ],
)
def test_the_table_of_the_contract(attempts: int, seconds: int, reason: str) -> None:
    assert delay(attempts, Least()) == timedelta(seconds=seconds), reason


@given(attempts=st.integers(1, 10_000), seed=st.integers())
def test_jitter_only_delays_and_only_a_little(attempts: int, seed: int) -> None:
    least = delay(attempts, Least())
    assert least <= delay(attempts, random.Random(seed)) <= least * (1 + JITTER)


def test_nobody_gives_up_before_the_steps_are_over() -> None:
    assert timedelta(seconds=sum(DELAYS_S) * (1 + JITTER)) < GIVEN_UP_AFTER


@pytest.mark.parametrize(
    ("tries", "asked_s", "expected", "reason"),
    [
        (1, None, AWAY.first, "nothing asked for"),
        (1, 60.0, timedelta(seconds=60), "as it asked"),
        (20, None, AWAY.longest, "it is looked at every few minutes"),
        (20, 1.0, AWAY.longest, "its answer makes the panel no more eager"),
        (1, 1e9, timedelta(seconds=LONGEST_ASKED_S), "nobody can switch events off by a header"),
        (1, -5.0, AWAY.first, "nonsense"),
    ],
)
def test_how_long_a_main_site_is_spared(tries: int, asked_s: float | None, expected: timedelta, reason: str) -> None:
    assert pause(tries, asked_s) == expected, reason
