"""docs/reliability.md names a test for everything it promises, and each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "reliability.md"
FAULTS = ROOT / "tests" / "faults" / "test_nothing_lost.py"
DEFINED = re.compile(r"^ *(?:async )?def (test_\w+)\(", re.MULTILINE)


def rows() -> list[str]:
    """The last cell of every row below a table's head."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [line.rstrip("|").rpartition("|")[2] for line in lines if not line.endswith("| test |")]


def test_each_test_that_is_named_exists() -> None:
    there = {"tests/soak"}
    for path in (ROOT / "tests").rglob("test_*.py"):
        there |= {path.stem, *DEFINED.findall(path.read_text(encoding="utf-8"))}
    assert len(rows()) > 20
    for cell in rows():
        named = re.findall(r"`([\w/]+)`", cell)
        assert named, cell
        assert not set(named) - there, cell


def test_each_fault_of_the_suite_has_its_row() -> None:
    named = {name for cell in rows() for name in re.findall(r"`(test_\w+)`", cell)}
    suite = set(DEFINED.findall(FAULTS.read_text(encoding="utf-8")))
    assert suite - named == {"test_afterwards_every_call_is_applied_once_and_in_order"}
