"""What every connection says for itself, whatever the server or the role would have it be."""

from __future__ import annotations

import psycopg
from sqlalchemy import text

from panel.sessions import async_engine, sync_engine
from tests.support.databases import Database

SHOWN = text("SHOW synchronous_commit")


async def test_a_commit_is_on_the_disk_before_it_is_answered(database: Database) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {database.name} SET synchronous_commit = off")
    acceptor, worker = async_engine(database.app_url, "test"), sync_engine(database.app_url, "test")
    try:
        async with acceptor.connect() as connection:
            assert await connection.scalar(SHOWN) == "on"
        with worker.connect() as connection:
            assert connection.scalar(SHOWN) == "on"
    finally:
        worker.dispose()
        await acceptor.dispose()
