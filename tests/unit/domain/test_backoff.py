"""A pause doubles up to its limit, and a clock that jumped back makes none of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.backoff import Backoff

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BACKOFF = Backoff(timedelta(seconds=20), timedelta(minutes=5))


def test_it_doubles_up_to_its_limit() -> None:
    assert [BACKOFF.pause(n).total_seconds() for n in (1, 2, 3, 4, 5, 6, 10**9)] == [20, 40, 80, 160, 300, 300, 300]


def test_it_lasts_until_its_end_and_no_longer_than_any_can() -> None:
    assert not BACKOFF.lasts(None, NOW)
    assert BACKOFF.lasts(NOW + timedelta(seconds=1), NOW)
    assert BACKOFF.lasts(NOW + BACKOFF.longest, NOW)
    assert not BACKOFF.lasts(NOW, NOW)
    assert not BACKOFF.lasts(NOW + BACKOFF.longest + timedelta(seconds=1), NOW)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 10**6))
def test_no_pause_is_beyond_its_bounds(failures: int, first_s: int, more_s: int) -> None:
    backoff = Backoff(timedelta(seconds=first_s), timedelta(seconds=first_s + more_s))
    assert backoff.first <= backoff.pause(failures) <= backoff.pause(failures + 1) <= backoff.longest
