"""docs/changing.md leads to files and names that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "changing.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`([\w.-]+/[\w./-]*|[\w.-]+\.(?:md|py|yml|yaml))`", TEXT)))
NAMES = sorted(set(re.findall(r"`([\w./-]+\.py)`\s+\(`(\w+)`", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("path", "name"), NAMES)
def test_a_name_is_in_its_file(path: str, name: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8"))


def test_there_is_something_to_look_for() -> None:
    assert len(PATHS) > 30
    assert len(NAMES) > 20
