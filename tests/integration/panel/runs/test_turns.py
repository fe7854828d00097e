"""A run's session goes back to the pool as it came: the next one finds no lock, table or setting of an earlier run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from panel.runs.lease import hold_turn, take_lease
from panel.sessions import sync_engine
from tests.support.databases import Database

SESSION = """
SELECT pg_backend_pid() AS pid,
  (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) AS temporary,
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
  (SELECT jsonb_object_agg(name, setting) FROM pg_settings WHERE name IN ('statement_timeout',
    'idle_in_transaction_session_timeout', 'client_connection_check_interval', 'synchronous_commit')) AS settings
"""


@pytest.fixture
def one_session(database: Database) -> Iterator[Engine]:
    """An engine with one connection: whoever asks next gets the session of whoever asked before."""
    engine = sync_engine(database.app_url, "panel-sync test", pool_size=1)
    yield engine
    engine.dispose()


def looks(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return dict(connection.execute(text(SESSION)).one()._mapping)


@contextmanager
def a_run(engine: Engine) -> Iterator[Connection]:
    """A turn as a run has it: with the lease and a temporary table that hides a real one."""
    with hold_turn(engine, "full", "a test") as connection:
        assert connection is not None
        connection.execute(text("CREATE TEMP TABLE guests (cluster text)"))
        connection.commit()
        assert take_lease(connection, "a test") is not None
        yield connection


def test_the_next_one_finds_nothing_of_a_run(one_session: Engine) -> None:
    before = looks(one_session)
    with a_run(one_session):
        pass
    assert looks(one_session) == before
    assert (before["temporary"], before["locks"]) == (0, 0)


def test_a_run_in_the_midst_of_a_transaction_leaves_nothing_either(one_session: Engine) -> None:
    before = looks(one_session)
    with a_run(one_session) as connection:
        connection.execute(text("SELECT set_config('statement_timeout', '1h', false)"))
        connection.execute(text("CREATE TEMP TABLE another (id int)"))
    assert looks(one_session) == before


def test_one_that_finds_another_run_under_way_leaves_its_settings_too(database: Database, one_session: Engine) -> None:
    other = sync_engine(database.app_url, "panel-sync test", pool_size=1)
    before = looks(one_session)
    with a_run(other), hold_turn(one_session, "full", "a test") as connection:
        assert connection is None
    assert looks(one_session) == before
    other.dispose()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_session_of_a_run_that_failed_is_closed(one_session: Engine, error: type[BaseException]) -> None:
    before = looks(one_session)
    with pytest.raises(error), a_run(one_session):
        raise error
    after = looks(one_session)
    assert after.pop("pid") != before.pop("pid")
    assert after == before


def test_a_session_that_was_cut_is_not_used_again(one_session: Engine) -> None:
    with a_run(one_session) as connection:
        connection.invalidate()
    assert looks(one_session)["locks"] == 0
    with a_run(one_session):
        pass
