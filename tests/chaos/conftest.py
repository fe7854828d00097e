"""One rig for a module: the whole panel, with three workers and two beats."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.rig import Rig
from cli.chaos import running_rig
from cli.staging import scratch_directory

WORKERS = 3


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    # Short: PostgreSQL's own paths are limited.
    with scratch_directory("chaos") as root, running_rig(root, workers=WORKERS) as made:
        yield made
