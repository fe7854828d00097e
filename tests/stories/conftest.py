"""A panel of its own for each story; modules of many short cases share one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.support.bench import Bench, bench
from tests.support.databases import Database


@pytest.fixture
def world(database: Database, engine: Engine) -> Iterator[Bench]:
    """A main site of the documented kind (no optional keys), one cluster, the ``orders`` feed."""
    with bench(database, engine) as made:
        yield made


@pytest.fixture
def extended_world(database: Database, engine: Engine) -> Iterator[Bench]:
    """A main site that sends order ids and guest keys."""
    with bench(database, engine, extended=True) as made:
        yield made


@pytest.fixture
def two_clusters(database: Database, engine: Engine) -> Iterator[Bench]:
    """Clusters ``main`` and ``second``."""
    with bench(database, engine, clusters=("main", "second")) as made:
        yield made
