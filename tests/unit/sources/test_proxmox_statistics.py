"""Proxmox's ``rrddata`` as points."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.statistics.measurements import Point
from sources.outgoing.faults import Malformed
from sources.proxmox.statistics import POINTS, points_of

RUNNING = {
    "time": 1_800_000_060, "cpu": 0.25, "maxcpu": 4, "mem": 1.5e9, "maxmem": 4294967296, "netin": 1200.5,
    "netout": 3400.25, "diskread": 0, "diskwrite": 8192.75, "disk": 0, "maxdisk": 34359738368,
}  # fmt: skip
POINT = Point(1_800_000_060, 1.0, 1.5e9, 4294967296.0, 1200.5, 3400.25, 0.0, 8192.75)

CASES: list[tuple[str, list[Any], list[Point]]] = [
    ("nothing was ever measured", [], []),
    ("a machine that runs", [RUNNING], [POINT]),
    ("9.x says more, which nobody asks for", [RUNNING | {"memhost": 2e9, "pressurecpusome": 0.1}], [POINT]),
    ("off: its size only", [{"time": 60, "maxcpu": 4, "maxmem": 1024}], [Point(60, memory_total=1024.0)]),
    ("before its first minute", [{"time": 60}], [Point(60)]),
    ("null instead of left out", [RUNNING | {"netin": None, "cpu": None}],
     [Point(1_800_000_060, None, 1.5e9, 4294967296.0, None, 3400.25, 0.0, 8192.75)]),
    ("numbers as text", [{"time": "60", "cpu": "0.5", "maxcpu": "2"}], [Point(60, cores=1.0)]),
    ("a share without the number of cores says nothing", [{"time": 60, "cpu": 0.5}], [Point(60)]),
    ("no number that can be", [{"time": 60, "cpu": "x", "maxcpu": 1, "mem": -1, "netin": True, "netout": 1e300}],
     [Point(60)]),
    ("old points behind new ones, and one twice", [{"time": 120, "mem": 1}, {"time": 60, "mem": 2},
     {"time": 120, "mem": 3}], [Point(60, memory_used=2.0), Point(120, memory_used=3.0)]),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "points"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_read(rows: list[Any], points: list[Point]) -> None:
    assert list(points_of(rows)) == points


@pytest.mark.parametrize(
    "rows",
    [[None], [[]], ["x"], [{}], [{"time": None}], [{"time": -1}], [{"time": "soon"}], [RUNNING, 5],
     [{"time": at} for at in range(POINTS + 2)]],
    ids=["null", "a list", "text", "no time", "no time given", "before 1970", "no number", "half of it", "without end"],
)  # fmt: skip
def test_what_is_no_measurements(rows: list[Any]) -> None:
    with pytest.raises(Malformed):
        points_of(rows)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "1e999", "nan", "7"])
rows_of_anything = st.lists(
    st.dictionaries(st.sampled_from([*RUNNING, "else"]), scalars | st.lists(scalars, max_size=2)), max_size=5
)


@given(rows_of_anything)
def test_whatever_comes_is_points_or_a_fault(rows: list[dict[str, Any]]) -> None:
    try:
        points = points_of(rows)
    except Malformed:
        return
    assert [p.at for p in points] == sorted({p.at for p in points})
    json.dumps([getattr(p, name) for p in points for name in Point.__slots__], allow_nan=False)
