"""Run them: ``make bench``, or ``python -m benchmarks [accept latency relay select]``."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import structlog
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import accepting, latency, relaying, selecting
from benchmarks.measure import Ratio
from benchmarks.servers import Servers

BENCHMARKS: dict[str, Callable[[Servers], list[Ratio]]] = {
    "accept": accepting.measure,
    "latency": latency.measure,
    "relay": relaying.measure,
    "select": selecting.measure,
}


def main() -> int:
    """Measure what was asked for (all by default) and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all by default")
    names = parser.parse_args().names or list(BENCHMARKS)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console()
    shown = Table("what", "ours", "yardstick", "ratio", box=None)
    with (
        tempfile.TemporaryDirectory(prefix="panel-sync-bench-") as directory,
        Servers(Path(directory)) as servers,
        Progress(console=console, transient=True) as progress,
    ):
        for name in progress.track(names, description="measuring"):
            for ratio in BENCHMARKS[name](servers):
                shown.add_row(ratio.what, ratio.ours, ratio.yardstick, f"{ratio.ratio:.2f}")
    console.print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
