"""One panel for all cases of a module: each case must leave it well, which shows that the fault alone did harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from panel.sessions import sync_engine
from tests.support.bench import Bench, bench
from tests.support.databases import Databases

MakeBench = Callable[..., Bench]


@pytest.fixture(scope="module")
def make_bench(databases: Databases) -> Iterator[MakeBench]:
    """Make a panel on a database of its own; gone with the module."""
    with ExitStack() as stack:

        def make(**options: Any) -> Bench:
            database = databases.clone()
            stack.callback(databases.drop, database)
            engine = sync_engine(database.app_url, "panel-sync test", pool_size=4)
            stack.callback(engine.dispose)
            return stack.enter_context(bench(database, engine, **options))

        yield make
