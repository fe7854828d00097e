"""A customer's read in one round trip: who it is read as, and what it survives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import structlog
from sqlalchemy import Engine, text

from panel.clients.round_trips import Query, RoundTrips, Statement, client_reads
from panel.deadlines import DEFAULT, Deadlines
from panel.journal.calls import DatabaseAwayError
from tests.support.databases import Database

WHO = Query(Statement("SELECT current_user::text AS who, current_setting('panel.user_id', true) AS user_id"))
SESSION = Query(Statement("SELECT pg_backend_pid() AS pid"))
PREPARED = Query(Statement("SELECT count(*) AS statements FROM pg_prepared_statements"))
TIMEOUT = Query(Statement("SELECT current_setting('statement_timeout') AS ms"))
SLOW = Query(Statement("SELECT pg_sleep(600)"))


@pytest.fixture
async def trips(database: Database) -> AsyncIterator[RoundTrips]:
    made = client_reads(database.app_url, "panel-sync test", pool_size=1)
    yield made
    await made.dispose()


async def test_role_and_user_are_those_of_the_read_and_gone_with_it(trips: RoundTrips) -> None:
    before, within = await trips.rows_as_client(5, WHO, before=[WHO])
    [after] = await trips.rows(WHO)
    assert within == [{"who": "panel_client", "user_id": "5"}]
    for outside in (before, after):
        assert outside[0]["who"] == "panel_login"
        assert not outside[0]["user_id"]


async def test_the_rows_of_each_query(trips: RoundTrips) -> None:
    numbers = Statement("SELECT n FROM generate_series(1, $1::int) AS n")
    found = await trips.rows(Query(numbers, ("2",)), Query(numbers, ("0",)), Query(numbers, (None,)), WHO)
    assert found[:3] == [[{"n": 1}, {"n": 2}], [], []]
    assert (await trips.rows(PREPARED))[0] == [{"statements": 3}], "each once"


async def test_a_lost_connection_is_replaced_within_the_read(trips: RoundTrips, engine: Engine) -> None:
    [[first]] = await trips.rows(SESSION)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": first["pid"]})
    [[second]] = await trips.rows(SESSION)
    assert second["pid"] != first["pid"]


async def test_a_reader_who_gives_up_leaves_nothing_behind(trips: RoundTrips) -> None:
    await trips.rows(WHO)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await trips.rows_as_client(5, SLOW)
    assert (await trips.rows(WHO))[0][0]["who"] == "panel_login"


async def test_an_error_quotes_no_value_and_the_next_read_is_well(trips: RoundTrips) -> None:
    with pytest.raises(psycopg.DataError) as refused:
        await trips.rows_as_client(5, Query(Statement("SELECT $1::bigint AS n"), ("annas-secret",)), WHO)
    assert "annas-secret" not in str(refused.value)
    assert (await trips.rows(WHO))[0][0]["who"] == "panel_login"


async def test_a_database_that_is_too_slow_is_away(database: Database) -> None:
    trips = client_reads(database.app_url, "panel-sync test", deadlines=Deadlines(answer_within_s=0.4))
    try:
        with pytest.raises(DatabaseAwayError):
            await trips.rows(SLOW)
    finally:
        await trips.dispose()


async def test_behind_a_pooler_nothing_is_prepared_and_timeouts_are_set(database: Database) -> None:
    trips = client_reads(database.app_url, "panel-sync test", pool_size=1, pooled=True)
    try:
        found = await trips.rows_as_client(5, WHO, TIMEOUT, PREPARED)
        assert [rows[0] for rows in found] == [
            {"who": "panel_client", "user_id": "5"},
            {"ms": f"{DEFAULT.statement_s:.0f}s"},
            {"statements": 0},
        ]
    finally:
        await trips.dispose()


async def test_a_pooler_that_no_setting_names_is_found(trips: RoundTrips) -> None:
    await trips.rows(WHO)
    async with trips._engine.connect() as connection:  # as another client of the pooler would leave the session
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute("DEALLOCATE ALL")
    with structlog.testing.capture_logs() as logged:
        assert (await trips.rows_as_client(5, WHO))[0][0]["who"] == "panel_client"
        await trips.rows(WHO)
    assert [event["event"] for event in logged] == ["statements_not_prepared"]
    assert (await trips.rows(PREPARED))[0] == [{"statements": 0}]


async def test_reads_that_are_under_way_when_a_pooler_is_found_are_answered(database: Database) -> None:
    slowly = Query(Statement("SELECT current_user::text AS who, pg_sleep(0.2)::text AS slept"))
    trips = client_reads(database.app_url, "panel-sync test", pool_size=4)
    try:
        await asyncio.gather(*(trips.rows_as_client(5, slowly) for _ in range(4)))
        connections = [await trips._engine.connect() for _ in range(4)]
        for connection in connections:  # as another client of the pooler leaves the sessions
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, psycopg.AsyncConnection)
            await driver.execute("DEALLOCATE ALL")
        for connection in connections:
            await connection.close()
        found = await asyncio.gather(*(trips.rows_as_client(5, slowly) for _ in range(4)))
        assert len(found) == 4
    finally:
        await trips.dispose()
