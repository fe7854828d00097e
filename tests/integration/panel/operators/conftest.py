"""A small fleet by real runs, made once for a module. A test spoils one thing in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from panel.observations.proof import Proof
from panel.operators.reports.looks import Configured
from panel.sessions import sync_engine
from tests.support.databases import Databases
from tests.support.fleets.hoster import Hoster

PROOF = Proof(2, timedelta(0))
HERE = Configured(("main",), "orders", names=True, shared_ids=False, proof=PROOF)
SOLD = 4
AGO = "clock_timestamp() - interval '2 days'"
GUEST = "WHERE cluster = 'main' AND vmid = (SELECT vmid FROM vps WHERE order_id = 'o2')"
"""SQL: the guest of order o2."""


def sold(engine: Engine) -> Hoster:
    """Four VPS that agree with their orders and their guests, by real runs. Each is called vps-N and has order oN."""
    hoster = Hoster(engine)
    hoster.open()
    hoster.sell(SOLD)
    hoster.full(3)
    return hoster


@pytest.fixture
def fleet(engine: Engine) -> Hoster:
    """A fleet of the test's own, for what takes a run."""
    return sold(engine)


@pytest.fixture(scope="module")
def settled(databases: Databases) -> Iterator[Engine]:
    """The tables' owner on a database with the fleet."""
    database = databases.clone()
    engine, owner = (
        sync_engine(database.app_url, "panel-sync test"),
        sync_engine(database.owner_url, "panel-sync owner"),
    )
    sold(engine)
    engine.dispose()
    yield owner
    owner.dispose()
    databases.drop(database)


@pytest.fixture
def steady(settled: Engine) -> Iterator[Connection]:
    """The fleet, as if no test had been before."""
    with settled.connect() as connection:
        yield connection
        connection.rollback()


def spoil(connection: Connection, *statements: str) -> None:
    """Change one thing."""
    for statement in statements:
        connection.execute(text(statement))


def end_order(state: str) -> str:
    """SQL: order o2 has had this state for two days."""
    return f"UPDATE orders_seen SET state = '{state}', state_since = {AGO} WHERE order_id = 'o2'"


SPARE = (
    "INSERT INTO guests SELECT (copy.of).* FROM (SELECT jsonb_populate_record(g, jsonb_build_object('vmid', 900,"
    f" 'fingerprint', 'smbios-900')) AS of FROM guests g {GUEST}) copy"
)
"""SQL: guest 900 runs, and nobody ordered it."""
