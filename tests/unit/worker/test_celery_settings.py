"""Celery obeys the settings of this checkout, not a copy that an installation once made of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import worker


def test_settings_stand_beside_the_worker(tmp_path: Path) -> None:
    # As workers are started: from anywhere, and without the place that pytest itself puts first.
    ran = subprocess.run(
        [sys.executable, "-P", "-c", "import celeryconfig; print(celeryconfig.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert Path(ran.stdout.strip()).parent == Path(worker.__file__).parent.parent
