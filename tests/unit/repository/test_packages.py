"""What a wheel and an image carry: everything that the panel is made of."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEEL = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
NOT_SERVING = {"benchmarks", "lab", "tests", "tools"}


def test_a_wheel_has_every_package_but_those_that_serve_nobody() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"migrations", "celeryconfig.py"}
    assert packages - NOT_SERVING == WHEEL


def test_the_image_is_built_from_all_that_the_wheel_has() -> None:
    copied = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    assert copied >= WHEEL
    assert copied & NOT_SERVING == {"lab"}, "for the demo profile alone"


def test_the_lab_is_in_no_production_image() -> None:
    file = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    taking = [line for line in file.splitlines() if "lab" in line.split() and not line.startswith("#")]
    assert len(taking) == 1
    assert taking[0].startswith('RUN if [ "$EXTRA" = demo ]; then cp -r lab ')
