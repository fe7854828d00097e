"""What the yardsticks are installed from names no host, and each package has its hash."""

from __future__ import annotations

import json
from pathlib import Path

EXPRESS = Path(__file__).resolve().parents[3] / "benchmarks" / "yardsticks" / "express"


def test_npm_installs_by_hashes_and_from_wherever_it_is_set_up() -> None:
    packages = json.loads((EXPRESS / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    installed = {name: package for name, package in packages.items() if name}
    assert {"node_modules/express", "node_modules/pg"} <= installed.keys()
    assert [name for name, package in installed.items() if not package.get("integrity", "").startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
