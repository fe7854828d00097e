"""What a run of many worlds came to, told at its end."""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Add up the tallies of all batches: worlds, writes of the reconciler, and what was left to people."""
    sums: dict[str, Counter[str]] = {}
    for report in terminalreporter.getreports("passed"):
        for kind, tally in (p for p in getattr(report, "user_properties", ()) if "worlds" in p[0]):
            sums.setdefault(kind, Counter()).update(tally)
    for kind, tally in sorted(sums.items()):
        held, records = tally["held"], tally["records"]
        share = f"{held} of {records} records held ({held / max(1, records):.2%})"
        terminalreporter.write_line(
            f"{tally['stories']} {kind}: {tally['writes']} writes, {share} where all is unambiguous"
        )
