"""A panel of its own for each story; modules of many short cases share one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.stories.steps import ABSENT, Sold, converge, end_silently, live, sell
from tests.support.bench import Bench, bench
from tests.support.databases import Database


@pytest.fixture
def world(database: Database, engine: Engine) -> Iterator[Bench]:
    """A main site of the documented kind (no optional keys), one cluster, the ``orders`` feed."""
    with bench(database, engine) as world:
        yield world


@pytest.fixture
def extended_world(database: Database, engine: Engine) -> Iterator[Bench]:
    """A main site that sends order ids and guest keys."""
    with bench(database, engine, extended=True) as world:
        yield world


@pytest.fixture
def two_clusters(database: Database, engine: Engine) -> Iterator[Bench]:
    """Clusters ``main`` and ``second``."""
    with bench(database, engine, clusters=("main", "second")) as world:
        yield world


@pytest.fixture
def four_gone(world: Bench) -> tuple[Sold, ...]:
    """Five records, of which four are due to be deleted: more than one customer may lose in a run."""
    keep = sell(world, "keep")
    gone = tuple(sell(world, f"gone-{n}") for n in range(4))
    converge(world, keep, *gone)
    end_silently(world, *gone)
    world.run(ABSENT)
    assert len(live(world)) == 5, "held"
    return (keep, *gone)
