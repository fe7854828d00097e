"""PostgreSQL's errors quote rows; what the panel makes of them does not, whichever way they travel."""

from __future__ import annotations

import traceback

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from panel.observations.copying import copy_rows
from panel.observations.snapshots import make_stages
from panel.sessions import async_engine, sync_engine
from tests.support.databases import Database

PERSONAL = "person5@example.test"


@pytest.mark.parametrize(
    ("statement", "state", "says"),
    [
        pytest.param(
            "INSERT INTO users (id, username, email) VALUES (5, 'a', :personal), (5, 'b', :personal)",
            "23505",
            "duplicate key value violates unique constraint",
            id="a key's DETAIL",
        ),
        pytest.param(
            "INSERT INTO users (id, username) VALUES (NULL, :personal)",
            "23502",
            'null value in column "id"',
            id="a row",
        ),
        pytest.param("SELECT CAST(:personal AS integer)", "22P02", "(SQLSTATE 22P02)", id="the sentence itself"),
        pytest.param("SELECT CAST(:personal AS timestamptz)", "22007", "(SQLSTATE 22007)", id="a time"),
    ],
)
def test_values_are_left_out(engine: Engine, statement: str, state: str, says: str) -> None:
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text(statement), {"personal": PERSONAL})
    shown = "".join(traceback.format_exception(caught.value))
    assert says in shown
    assert PERSONAL not in shown
    assert PERSONAL not in repr(caught.value) + repr(caught.value.orig)
    assert getattr(caught.value.orig, "sqlstate", None) == state  # by which errors are told apart


async def test_values_are_left_out_at_the_edge(database: Database) -> None:
    engine = async_engine(database.app_url, "panel-sync test", pool_size=1)
    try:
        async with engine.connect() as connection:
            with pytest.raises(DBAPIError) as caught:
                await connection.execute(text("SELECT CAST(:personal AS integer)"), {"personal": PERSONAL})
    finally:
        await engine.dispose()
    assert PERSONAL not in "".join(traceback.format_exception(caught.value))


def test_values_are_left_out_of_what_is_streamed(engine: Engine) -> None:
    """COPY goes past SQLAlchemy, and its CONTEXT quotes the line."""
    with engine.connect() as connection:
        make_stages(connection)
        table = connection.scalar(
            text("SELECT relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r' LIMIT 1")
        )
        column = connection.scalar(
            text(
                "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:table AS regclass) AND attnum > 0"
                " AND atttypid IN ('integer'::regtype, 'bigint'::regtype) LIMIT 1"
            ),
            {"table": table},
        )
        with pytest.raises(psycopg.Error) as caught:
            copy_rows(connection, str(table), [str(column)], [[PERSONAL]])
    assert PERSONAL not in "".join(traceback.format_exception(caught.value))
    assert caught.value.sqlstate == "22P02"


def test_a_server_that_is_away_is_still_named() -> None:
    engine = sync_engine("postgresql://panel:hunter2-hunter2@127.0.0.1:1/panel", "panel-sync test")
    with pytest.raises(DBAPIError) as caught:
        engine.connect()
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
