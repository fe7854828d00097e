"""What every test may use: a database of its own, a Redis, and nothing of the machine it runs on.

PostgreSQL and Redis are real and one per test process; a test that kills or stops one finds it running again.
"""

from __future__ import annotations

import inspect
import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module

import httpx
import hypothesis
import pytest
import redis
from sqlalchemy import Engine

from panel.sessions import sync_engine
from panel.settings import Settings
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis
from tests.support.databases import Database, Databases
from tests.support.logs import plain_logging
from tests.support.stand_ins.pooler import pgbouncer
from tests.support.waiting import PATIENCE_S

OF_A_TERMINAL = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


BEHIND_POOLER = "--behind-pooler"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The same tests show that the panel works behind a pooler."""
    parser.addoption(
        BEHIND_POOLER, action="store_true", help="every API reaches PostgreSQL through a pgbouncer in transaction mode"
    )


def pytest_configure() -> None:
    """A test says how wide its tables are, not the terminal it runs in, and not the test that ran before."""
    for name in OF_A_TERMINAL:
        os.environ.pop(name, None)
    # HTTPX gives up after 5 s unless told otherwise, and a busy machine may take longer. One object is the default of
    # all its functions.
    patience = inspect.signature(httpx.get).parameters["timeout"].default
    for part in ("connect", "read", "write", "pool"):
        setattr(patience, part, PATIENCE_S)
    # Nor does an example of Hypothesis have to be fast.
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("any machine")
    # A console keeps the width that COLUMNS has when the console is made. So none is made while a test sets COLUMNS.
    import_module("cli.output.console")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files that run a whole panel far apart: live panels work all the time, and slow each other."""
    if config.getoption(BEHIND_POOLER):
        left_out = [item for item in items if item.get_closest_marker("own_sessions")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    files = [list(group) for _, group in itertools.groupby(items, key=lambda item: item.path)]
    live = [file for file in files if "acceptance" in file[0].path.parts]
    others = [file for file in files if "acceptance" not in file[0].path.parts]
    apart = len(others) // max(len(live), 1)
    spread = [
        file for number, first in enumerate(live) for file in (first, *others[number * apart : (number + 1) * apart])
    ]
    items[:] = [item for file in (*spread, *others[len(live) * apart :]) for item in file]


@pytest.fixture(scope="session", autouse=True)
def _no_variables_in_tracebacks() -> None:
    plain_logging()


@pytest.fixture(scope="session", autouse=True)
def _no_outside_settings() -> Iterator[None]:
    """A DATABASE_URL of the machine must not turn a test loose on a real database."""
    with pytest.MonkeyPatch.context() as patch:
        for name in Settings.model_fields:
            for spelling in (name, name.upper()):
                patch.delenv(spelling, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_outside_sockets() -> Iterator[None]:
    """Tests reach the loopback only."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: tuple[str, int] | str | bytes) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        if not host.startswith("127.") and host not in {"::1", "localhost", "0.0.0.0"}:  # noqa: S104 - compared
            raise AssertionError(f"a test reached for {host}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Databases]:
    """The server and its migrated template; for tests that need a database per module, or several."""
    server = Databases(tmp_path_factory.mktemp("postgres"))
    with ExitStack() as stack:
        stack.callback(server.destroy)
        server.start()
        if request.config.getoption(BEHIND_POOLER):
            directory, ignored = tmp_path_factory.mktemp("pooler"), "ignore_startup_parameters = options"
            server.behind(stack.enter_context(pgbouncer(server.template_url, directory, "transaction", ignored)))
        yield server


@pytest.fixture
def postgres_server(databases: Databases) -> Iterator[EmbeddedPostgres]:
    """The server itself, for tests that stop, kill or pause it."""
    yield databases.server
    databases.server.resume()
    databases.server.start()


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A migrated database without anything in it."""
    fresh = databases.clone()
    yield fresh
    databases.give_back(fresh)


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[Database]:
    """A fresh database without tables."""
    fresh = databases.empty()
    yield fresh
    databases.drop(fresh)


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    """A synchronous engine as the application's login."""
    opened = sync_engine(database.app_url, "panel-sync test", pool_size=4)
    yield opened
    opened.dispose()


@pytest.fixture
def owner(database: Database) -> Iterator[Engine]:
    """A synchronous engine as the tables' owner, for what the application has no right to."""
    opened = sync_engine(database.owner_url, "panel-sync test owner")
    yield opened
    opened.dispose()


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture
def redis_server(_redis: EmbeddedRedis) -> Iterator[EmbeddedRedis]:
    """An empty Redis, for tests that stop, kill or pause it too."""
    with redis.Redis.from_url(_redis.url, socket_timeout=60) as client:
        client.flushall()
    yield _redis
    _redis.resume()
    _redis.start()


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """An empty Redis' URL."""
    return redis_server.url
