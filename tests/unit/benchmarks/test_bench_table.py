"""The table of the benchmarks: what is met, which ratio is told, and what becomes of the page."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.measure import Aim, Ratio, each, median, median_ratio
from benchmarks.measuring import report

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("aim", "number", "met", "reason"),
    [
        (Aim(">=", 1.0), 1.0, True, "the limit itself keeps it"),
        (Aim(">=", 1.0), 0.99, False, "too slow"),
        (Aim("<=", 50, " ms"), 50.0, True, "the limit itself keeps it"),
        (Aim("<=", 50, " ms"), 50.1, False, "too late"),
        (Aim("<=", 0), 0, True, "no row was written"),
        (Aim(">=", 1.0), math.nan, False, "nothing was measured"),
        (Aim("<=", 1.0), math.nan, False, "nothing was measured"),
    ],
)
def test_an_aim_is_met_or_not(aim: Aim, number: float, met: bool, reason: str) -> None:
    assert aim.met(number) is met, reason


def test_a_row_is_judged_by_its_ratio_unless_it_names_another_number() -> None:
    assert Ratio("accept", "300/s", "100/s", 3.0, aim=Aim(">=", 1.0)).met is True
    assert Ratio("drain", "300/s", "100/s", 3.0, aim=Aim(">=", 3000, "/s"), judged=300).met is False
    assert Ratio("size", "3 MB", "", None, aim=Aim("<=", 4, " MB"), judged=3).met is True
    assert Ratio("told only", "3 MB", "", None).met is None
    assert Ratio("a ratio is missing", "3 MB", "", None, aim=Aim("<=", 4)).met is False


def test_a_ratio_is_the_median_of_the_pairs() -> None:
    """The machine was ten times slower in the second pair; that is no matter of either."""
    ours, yardstick = [100.0, 10.0, 110.0], [200.0, 20.0, 200.0]
    assert median_ratio(ours, yardstick) == 0.5
    assert each((ours, yardstick), "{:.0f}/s") == ("100/s", "200/s")
    assert math.isnan(median([]))


def test_pairs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        median_ratio([1.0, 2.0], [1.0])


def test_the_table_marks_what_is_missed() -> None:
    rows = [
        Ratio("accept", "300/s", "1,000/s", 0.3, aim=Aim(">=", 1.0), cpu="900 + 100 / 90 + 10 us", cpu_ratio=10.0),
        Ratio("list | of 1", "2 s", "1 s", 2.0, aim=Aim("<=", 3.0)),
        Ratio("told only", "5/s", "", None),
    ]
    table = report.markdown(rows).splitlines()
    assert table[2] == "| accept | 300/s | 1,000/s | 0.3 | >= 1 | **no** | 900 + 100 / 90 + 10 us | 10 |"
    assert table[3] == "| list \\| of 1 | 2 s | 1 s | 2 | <= 3 | yes |  |  |"
    assert table[4] == "| told only | 5/s |  |  |  |  |  |  |"
    assert report.summary(rows) == "1 of 2 aims are met."


def test_the_page_keeps_all_but_the_table() -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    new = report.into_page(page, "new\n")
    assert new == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    assert report.into_page(new, "new\n") == new
    with pytest.raises(ValueError, match="no place"):
        report.into_page("a page without marks", "new\n")


def test_the_page_of_performance_has_a_place_for_the_table() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page.count(report.BEGIN) == page.count(report.END) == 1
    assert report.into_page(page, "new\n") != page
