from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.changes import Change, SetStatus
from domain.records import Record
from panel.journal.accept import Acceptor
from panel.journal.calls import Accepted, Call, Outcome, Refused
from panel.journal.repairs import NotWritten, Written, write_repair
from panel.runs.lease import LEASE
from panel.schema import tables
from tests.support.databases import PATIENT, Database
from tests.support.fleets.world import add_user
from tests.unit.reconcile.worlds import record


@pytest.fixture
def panel(engine: Engine) -> Engine:
    """A database with users 5 and 6 in it."""
    add_user(engine, 5)
    add_user(engine, 6)
    return engine


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[AsyncEngine]:
    made = database.api_engine("panel-sync test api", deadlines=PATIENT)
    yield made
    await made.dispose()


@pytest.fixture
async def acceptor(panel: Engine, pool: AsyncEngine) -> AsyncIterator[Acceptor]:
    made = Acceptor(pool, deadlines=PATIENT)
    await made.start()
    yield made
    await made.stop()


async def accepted(acceptor: Acceptor, call: Call) -> Accepted:
    outcome = await acceptor.accept(call)
    assert isinstance(outcome, Accepted), outcome
    return outcome


async def refused(acceptor: Acceptor, call: Call) -> Refused:
    outcome = await acceptor.accept(call)
    assert isinstance(outcome, Refused), outcome
    return outcome


def facts_of(outcome: Outcome) -> tuple[str, int]:
    """(kind, id or status code), to compare many outcomes at a glance."""
    match outcome:
        case Accepted():
            return ("accepted", outcome.vps_id)
        case Refused():
            return (outcome.code, outcome.status_code)
        case _:
            return ("replayed", outcome.vps_id)


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        found = connection.scalar(text(f"SELECT count(*) FROM {table}"))
    assert isinstance(found, int)
    return found


def database_time(engine: Engine) -> datetime:
    """Now by the database's clock. What it dates lies between two looks, however long the work between them takes."""
    with engine.connect() as connection:
        now = connection.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(now, datetime)
    return now


def begin_run(engine: Engine, epoch: int = 1) -> int:
    """A run that holds the lease with this epoch; its id."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO leases (name, epoch, holder) VALUES (:name, :epoch, 'test') "
                "ON CONFLICT (name) DO UPDATE SET epoch = :epoch"
            ),
            {"name": LEASE, "epoch": epoch},
        )
        run_id = connection.scalar(
            insert(tables.runs)
            .values(kind="full", trigger="test", epoch=epoch, state="running")
            .returning(tables.runs.c.id)
        )
    assert isinstance(run_id, int)
    return run_id


EPOCH = 1


def decided_on(vps_id: int, version: int) -> Record:
    """A record at the version that a change is decided on; nothing else of it matters to the write."""
    return record(id=vps_id, version=version)


def setting(vps_id: int, version: int, **values: Any) -> SetStatus:
    return SetStatus(source="orders", reason="a test says so", record=decided_on(vps_id, version), values=values)


def write(panel: Engine, run_id: int, change: Change, epoch: int = EPOCH) -> Written | NotWritten:
    return write_repair(panel, run_id, epoch, change, {"snapshot": 1})


@contextmanager
def statements(panel: Engine) -> Iterator[list[str]]:
    """Those that are executed meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(panel, "before_cursor_execute", note)
    yield seen
    event.remove(panel, "before_cursor_execute", note)
