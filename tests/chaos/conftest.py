"""One rig for a module: the whole panel, with three workers and two beats."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cli.serving.chaos import running_rig
from cli.serving.temporary_run import scratch_directory
from lab.chaos.rig import Rig

WORKERS = 3

WITHIN_S, ANSWERED_S = 8.0, 60.0
"""``ANSWER_WITHIN_S`` of the panel and the longest answer. A test says that nothing is lost and everybody is answered;
how fast, `make torture` says on a machine of its own."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    # Short: PostgreSQL's own paths are limited.
    with scratch_directory("chaos") as root, running_rig(root, workers=WORKERS, answer_within_s=WITHIN_S) as made:
        yield made
