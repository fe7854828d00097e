"""Promises of the repository itself: what is documented exists, what is locked is hashed, and nothing points away."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from panel.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
ALIASES = {"demo"}
"""Settings that no operator sets in production; described, but not in the tables."""


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607 - git, wherever it is
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("document", ["docs/settings.md", "docs/ru/settings.md", ".env.example"])
def test_every_setting_is_documented(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    missing = [
        n.upper() for n in Settings.model_fields if n not in ALIASES and not re.search(rf"\b{n.upper()}\b", text)
    ]
    assert missing == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_are_hashed_and_name_no_host(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"(?m)^(?=[a-z0-9])", text) if entry.strip()]
    assert len(entries) > 5
    assert [e.splitlines()[0] for e in entries if "==" not in e or "--hash=sha256:" not in e] == []
    assert "://" not in text


def test_nothing_names_a_package_registry() -> None:
    hosts = [
        ".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"))
    ]
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in tracked()
        for host in hosts
        if host in path.read_text(encoding="utf-8", errors="ignore")
    ]
    assert found == []


def test_modules_stay_readable_in_one_go() -> None:
    """But for the tables and the migrations: tables of data, read column by column; to cut them would hide a part."""
    tables = {ROOT / "panel" / "schema" / "tables.py"}
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked()
        if path.suffix == ".py" and path not in tables and path.parent != ROOT / "migrations" / "versions"
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


def test_no_folder_holds_more_modules_than_one_sees_at_a_glance() -> None:
    folders = Counter(path.parent for path in tracked() if path.suffix == ".py" and path.name != "__init__.py")
    assert {
        str(folder.relative_to(ROOT)): modules
        for folder, modules in folders.items()
        if modules > 15 and folder != ROOT / "migrations" / "versions"
    } == {}


def test_test_modules_have_names_of_their_own() -> None:
    """pytest imports them by base name: of two equal ones the second is not collected."""
    names = [path.name for path in tracked() if path.name.startswith("test_") and path.suffix == ".py"]
    assert sorted(names) == sorted(set(names))


def test_nothing_is_skipped_and_nothing_expected_to_fail() -> None:
    """What root or an ordinary user cannot do is proven otherwise; what takes long has a marker and a step of CI."""
    words = re.compile(r"mark\.skip|pytest\.skip|\bskip" + r"if\b|\bx" + r"fail\b|import" + r"orskip")
    tests = [path for path in tracked() if path.suffix == ".py" and path.is_relative_to(ROOT / "tests")]
    found = [
        str(path.relative_to(ROOT))
        for path in tests
        if path != Path(__file__) and words.search(path.read_text("utf-8"))
    ]
    assert found == []


def test_tests_wait_for_events_by_one_patient_function() -> None:
    """A test that lets time pass says how fast the machine is. Where time itself is what is tried, it is named here."""
    allowed = {
        "tests/faults/rig.py",  # a fault comes at a random moment
        "tests/support/waiting.py",
    }
    tests = [path for path in tracked() if path.suffix == ".py" and path.is_relative_to(ROOT / "tests")]
    sleeping = {
        str(path.relative_to(ROOT))
        for path in tests
        if path != Path(__file__) and re.search(r"\btime\.sleep\(", path.read_text("utf-8"))
    }
    assert sleeping <= allowed


def test_no_merge_leftovers_and_no_private_keys() -> None:
    marks = ["<" * 7, ">" * 7, "-----BEGIN " + "PRIVATE KEY", "-----BEGIN RSA " + "PRIVATE KEY"]
    found = [
        f"{path.relative_to(ROOT)}: {mark}"
        for path in tracked()
        for mark in marks
        if any(line.startswith(mark) for line in path.read_text(encoding="utf-8", errors="ignore").splitlines())
    ]
    assert found == []
