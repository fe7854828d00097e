"""docs/faults.md names a test for every fault, and every case of the tables has its row."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from tests.faults_of_sources import (
    test_faults_of_answers,
    test_faults_of_calls,
    test_faults_of_proxmox,
    test_faults_of_runs,
    test_faults_of_the_feed,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"

CASES = {
    "test_answer_fault": [case.name for case in test_faults_of_answers.FAULTS],
    "test_call_fault": [case.name for case in test_faults_of_calls.FAULTS],
    "test_story_24_feed_fault": [case.name for case in test_faults_of_the_feed.FAULTS],
    "test_story_23_proxmox_fault": [case.name for case in test_faults_of_proxmox.FAULTS],
    "test_clock_skew": [case.name for case in test_faults_of_runs.SKEWS],
}


def rows() -> list[list[str]]:
    """The cells of every row that names a test."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and "`test_" in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named() -> list[str]:
    return [re.fullmatch(r"`(test_.+)`", row[-1])[1] for row in rows()]  # type: ignore[index]


def functions() -> set[str]:
    """Every test function in the repository."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    return found


def test_every_case_has_its_row() -> None:
    cases = {f"{function}[{name}]" for function, names in CASES.items() for name in names}
    assert cases == {name for name in named() if "[" in name}


def test_every_named_test_exists_once() -> None:
    assert {name.partition("[")[0] for name in named()} <= functions()
    assert [name for name, times in Counter(named()).items() if times > 1] == []


def test_every_fault_of_these_modules_is_told() -> None:
    here = {
        node.name
        for path in Path(__file__).parent.glob("test_faults_of_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert here == {name.partition("[")[0] for name in named()} & here


def test_every_row_says_what_was_written_and_what_was_not() -> None:
    assert all(len(row) == 5 and all(row) for row in rows())
