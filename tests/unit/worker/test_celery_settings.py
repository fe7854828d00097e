"""Celery obeys the settings of this checkout, not a copy that an installation once made of them."""

from __future__ import annotations

from pathlib import Path

import celeryconfig
import worker


def test_settings_stand_beside_the_worker() -> None:
    assert Path(celeryconfig.__file__).parent == Path(worker.__file__).parent.parent
