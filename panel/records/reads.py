"""The API's reads. A client's read runs in a role for which row-level security shows one user's records only."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import case, select, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from panel.journal.calls import DatabaseAwayError
from panel.records.projection import Row, project
from panel.records.public import BY_OPERATOR
from panel.schema import tables

FOUND_LIMIT = 100  # records per look-up; a caller with more of one name should ask by order_id

OPERATION_COLUMNS = (
    "id", "action", "vps_id", "state", "attempts", "error", "result", "accepted_at", "applied_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One journaled operation, and its record as stored now (None: not written yet)."""

    id: int
    action: str
    vps_id: int
    state: str
    attempts: int
    error: str | None
    result: str | None
    reason: str | None
    accepted_at: datetime
    applied_at: datetime | None
    record: Row | None

    @property
    def finished(self) -> bool:
        return self.state != "queued"


@contextlib.asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for one read. Raises DatabaseAwayError if PostgreSQL is away or too slow."""
    try:
        async with engine.connect() as connection:
            yield connection
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise DatabaseAwayError(type(error).__name__) from error


@contextlib.asynccontextmanager
async def reading_as_client(engine: AsyncEngine, user_id: int) -> AsyncIterator[AsyncConnection]:
    """A transaction in which only this user's live records exist, whatever the statement.

    Role and user are local to the transaction (``SET LOCAL``), so the pooled connection forgets both.
    """
    async with reading(engine) as connection:
        await connection.execute(
            text("SELECT set_config('role', 'panel_client', true), set_config('panel.user_id', :id, true)"),
            {"id": str(user_id)},
        )
        yield connection


class DatabaseHealth(NamedTuple):
    """What the readiness check must know of the database. ``revision``: its migration, None without any. ``writable``:
    it takes writes, unlike a standby."""

    revision: str | None
    writable: bool


async def database_health(engine: AsyncEngine) -> DatabaseHealth:
    """The state of the database. Raises DatabaseAwayError if PostgreSQL is away or too slow."""
    async with reading(engine) as connection:
        revision, writable = None, await connection.scalar(text("SHOW transaction_read_only")) == "off"
        if await connection.scalar(text("SELECT to_regclass('alembic_version')")) is not None:
            revision = await connection.scalar(text("SELECT version_num FROM alembic_version"))
        if not writable:
            await connection.invalidate()  # its session would stay read-only when the database takes writes again
        return DatabaseHealth(revision, writable)


async def operation(engine: AsyncEngine, operation_id: int) -> Operation | None:
    """One operation of the journal as the main site sees it, or None."""
    journal = tables.operations
    reason = case((journal.c.kind == "operator", BY_OPERATOR), else_=journal.c.reason).label("reason")
    columns = [*(journal.c[name] for name in OPERATION_COLUMNS), reason]
    async with reading(engine) as connection:
        row = (await connection.execute(select(*columns).where(journal.c.id == operation_id))).one_or_none()
        if row is None:
            return None
        records = await _rows(connection, [row.vps_id])
    return Operation(**row._mapping, record=records.get(row.vps_id))


async def finished_among(engine: AsyncEngine, operation_ids: Iterable[int]) -> list[int]:
    """Those of these operations that are finished."""
    journal = tables.operations
    statement = select(journal.c.id).where(journal.c.id.in_(list(operation_ids)), journal.c.state != "queued")
    async with reading(engine) as connection:
        return list((await connection.scalars(statement)).all())


async def records_of_order(engine: AsyncEngine, order_id: str) -> list[Row]:
    """Live records of an order, newest id first, as they will be after their queued operations."""
    vps, order_claims = tables.vps, tables.order_claims
    candidates = (
        select(vps.c.id)
        .where(vps.c.order_id == order_id, vps.c.deleted_at.is_(None))
        .union(select(order_claims.c.vps_id).where(order_claims.c.order_id == order_id))
    )
    async with reading(engine) as connection:
        rows = await _projected(connection, candidates)
    return [row for row in rows if row["order_id"] == order_id]


async def records_named(engine: AsyncEngine, user_id: int, name: str) -> list[Row]:
    """Live records of a user with this name (there may be several), newest id first, as they will be after their
    queued operations."""
    vps, journal = tables.vps, tables.operations
    candidates = (
        select(vps.c.id)
        .where(vps.c.user_id == user_id, vps.c.name == name, vps.c.deleted_at.is_(None))
        .union(
            select(journal.c.vps_id).where(journal.c.state == "queued", journal.c.payload["name"].as_string() == name)
        )
    )
    async with reading(engine) as connection:
        rows = await _projected(connection, candidates)
    return [row for row in rows if (row["user_id"], row["name"]) == (user_id, name)][:FOUND_LIMIT]


async def _projected(connection: AsyncConnection, candidates: Any) -> list[Row]:  # noqa: ANN401
    """The candidates as their queued operations will leave them.

    The queue is read before the rows. So an operation that is applied in between counts twice, which changes nothing.
    The other way round it would not count at all.
    """
    ids = sorted((await connection.scalars(candidates)).all(), reverse=True)
    journal = tables.operations
    queued = await connection.execute(
        select(journal)
        .where(journal.c.vps_id.in_(ids), journal.c.state == "queued")
        .order_by(journal.c.vps_id, journal.c.seq)
    )
    pending: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in queued:
        pending[row.vps_id].append(dict(row._mapping))
    stored = await _rows(connection, ids)
    projected = [project(stored.get(id_), pending[id_]) for id_ in ids]
    return [row for row in projected if row is not None and row["deleted_at"] is None]


async def _rows(connection: AsyncConnection, ids: Iterable[int]) -> dict[int, Row]:
    vps = tables.vps
    rows = await connection.execute(select(vps).where(vps.c.id.in_(list(ids))))
    return {row.id: dict(row._mapping) for row in rows}
