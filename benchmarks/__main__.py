"""Run them: ``make bench``, or ``python -m benchmarks [--quick] [calls reads ...]``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from benchmarks import sweeping
from benchmarks.measure import Ratio
from benchmarks.measuring import plot, report
from benchmarks.measuring.processes import machine
from benchmarks.rows import calls, generator, growing, idling, latency, open_pages, polling, reading
from benchmarks.servers import Servers

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "cost-over-size.png"
OUT = ROOT / ".cache" / "bench"

BENCHMARKS: dict[str, Callable[[Servers], Iterable[Ratio]]] = {
    "generator": generator.measure,
    "start": idling.start,
    "calls": calls.measure,
    "reads": reading.measure,
    "pages": open_pages.measure,
    "idle": idling.measure,
    "polling": polling.measure,
    "growth": growing.measure,
    "sweep": sweeping.measure,
    "latency": latency.measure,
}
ALONE = {"latency"}
"""Measured only when it is asked for: its aims are what the pages promise, and it waits for minutes."""


def main() -> int:
    """Measure what was asked for (all by default) and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all by default")
    parser.add_argument("--quick", action="store_true", help="few and short measurements: minutes, and rough numbers")
    parser.add_argument("--into-docs", action="store_true", help=f"write table and plot into {PAGE.name}, too")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    # A bench that is ended stops its servers and removes their files.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    console = Console()
    console.width = max(console.width, 180)
    names = asked.names or [name for name in BENCHMARKS if name not in ALONE]
    rows, began, ended = list[Ratio](), time.monotonic(), False
    with (
        tempfile.TemporaryDirectory(prefix="panel-sync-bench-") as directory,
        Servers(Path(directory), quick=asked.quick) as servers,
    ):
        try:
            for name in names:
                console.print(f"{time.monotonic() - began:5.0f} s  measuring: {name}")
                for row in BENCHMARKS[name](servers):  # one by one: what follows may fail
                    rows.append(row)
            ended = True
        finally:  # what was measured until something failed is told all the same
            facts = f"{_machine(servers)}, {time.monotonic() - began:,.0f} s in all"
            _tell(console, rows, facts, into_docs=ended and asked.into_docs)
    return 0


def _tell(console: Console, rows: list[Ratio], facts: str, *, into_docs: bool) -> None:
    shown = Table(*report.HEAD, box=None)
    for row in rows:
        shown.add_row(*report.cells(row))
    console.print(shown)
    table = f"\n{facts}. {report.summary(rows)}\n\n{report.markdown(rows)}"
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "table.md").write_text(table, encoding="utf-8")
    points = [row.point for row in rows if row.point is not None]
    if points:
        plot.draw(points, OUT / PICTURE.name)
    if into_docs:
        PAGE.write_text(report.into_page(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")
        if points:
            PICTURE.write_bytes((OUT / PICTURE.name).read_bytes())
    console.print(f"{report.summary(rows)} The same as Markdown, and the plot: {OUT}")


def _machine(servers: Servers) -> str:
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    load = os.getloadavg()[2]
    return (
        f"{time.strftime('%Y-%m-%d')}, {machine()}, {python}, PostgreSQL {servers.postgres.version}, "
        f"load of the last 15 minutes {load:.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
