"""Which points are shown: none of before the machine was this customer's, and no more than a graph has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.statistics.measurements import COVERS_S, MOST, UNSURE_S, VALUES, Point, Timeframe, own, thinned

SINCE = 1_800_000_000
EARLIEST = SINCE + UNSURE_S


@pytest.mark.parametrize(
    ("timeframe", "after_s", "shown", "reason"),
    [
        (Timeframe.HOUR, 60 + UNSURE_S, True, "even if the minute began at its stamp's end, it was this machine's"),
        (Timeframe.HOUR, 59 + UNSURE_S, False, "its minute may have begun before the machine was sure"),
        (Timeframe.HOUR, 0, False, "it ended when the machine was known first"),
        (Timeframe.HOUR, -3600, False, "long before: another machine's"),
        (Timeframe.DAY, 60 + UNSURE_S, False, "a point of a day may be of half an hour"),
        (Timeframe.DAY, 1_800 + UNSURE_S, True, "half an hour later it is not"),
        (Timeframe.WEEK, 10_800 + UNSURE_S - 1, False, "three hours"),
        (Timeframe.MONTH, 43_200 + UNSURE_S - 1, False, "twelve hours"),
        (Timeframe.YEAR, 604_800 + UNSURE_S - 1, False, "a week"),
        (Timeframe.YEAR, 604_800 + UNSURE_S, True, "a week later"),
    ],
)
def test_a_point_counts_if_all_of_it_is_the_machine_s_own(
    timeframe: Timeframe, after_s: int, shown: bool, reason: str
) -> None:
    points = [Point(SINCE + after_s, cores=1.0)]
    assert bool(own(points, timeframe, SINCE)) is shown, reason


@given(
    at=st.lists(st.integers(SINCE - 10**7, SINCE + 10**7), max_size=50),
    timeframe=st.sampled_from(Timeframe),
    stamped_at_its_end=st.booleans(),
)
def test_whichever_end_is_stamped_nothing_of_before_is_in_it(
    at: list[int], timeframe: Timeframe, *, stamped_at_its_end: bool
) -> None:
    kept = own([Point(one) for one in at], timeframe, SINCE)
    for point in kept:
        begins = point.at - COVERS_S[timeframe] if stamped_at_its_end else point.at
        assert begins >= EARLIEST
    assert [point.at for point in kept] == [one for one in at if Point(one) in kept], "in the same order"


numbers = st.none() | st.floats(0, 2**40)
lists_of_points = st.lists(st.builds(Point, st.integers(0, 2**31), **dict.fromkeys(VALUES, numbers)), max_size=40)


@given(lists_of_points, st.integers(1, 30))
def test_a_long_list_is_averaged(points: list[Point], most: int) -> None:
    fewer = thinned(points, most)
    assert len(fewer) <= most
    assert fewer == points or len(points) > most
    assert {point.at for point in fewer} <= {point.at for point in points}
    for name in VALUES:
        values = [value for p in points if (value := getattr(p, name)) is not None]
        averages = [value for p in fewer if (value := getattr(p, name)) is not None]
        assert bool(values) == bool(averages), "what was measured is shown"
        assert all(min(values) * 0.999 <= value <= max(values) * 1.001 for value in averages)


def test_a_day_of_minutes_is_shown_by_groups_that_end_with_the_last_minute() -> None:
    day = [Point(at, cores=float(at % 2)) for at in range(1440)]
    fewer = thinned(day)
    assert len(fewer) == 360 <= MOST
    assert (fewer[0], fewer[-1]) == (Point(3, cores=0.5), Point(1439, cores=0.5))


def test_a_machine_that_is_off_has_its_size_and_nothing_else() -> None:
    off = Point(1, memory_total=2**30)
    assert not off.measured
    assert replace(off, network_in=0.0).measured, "a machine that runs and is idle"
