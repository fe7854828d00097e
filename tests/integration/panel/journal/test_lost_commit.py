"""COMMIT's answer is lost: a caller is told "accepted" only of what the journal holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncConnection

from panel.journal.accept import Acceptor
from panel.journal.calls import DatabaseAwayError
from panel.journal.writer import apply_operation
from runtime.servers.embedded_postgres import EmbeddedPostgres
from tests.integration.panel.conftest import accepted, count
from tests.support.calls import create_call, update_call
from tests.support.databases import Database

pytestmark = pytest.mark.faults

Commit = Callable[[AsyncConnection], Awaitable[None]]


def once(monkeypatch: pytest.MonkeyPatch, broken: Callable[[AsyncConnection, Commit], Awaitable[None]]) -> None:
    """Let the next COMMIT end as ``broken`` does, and those after it as ever."""
    real: Commit = AsyncConnection.commit
    pending = [broken]

    async def commit(connection: AsyncConnection) -> None:
        if pending:
            await pending.pop()(connection, real)
        else:
            await real(connection)

    monkeypatch.setattr(AsyncConnection, "commit", commit)


TRIES = 20
"""Something else may make the server write its log just before it crashes: then the number is not given out again."""


async def test_a_transaction_number_that_was_given_out_again_proves_nothing(
    acceptor: Acceptor,
    panel: Engine,
    database: Database,
    postgres_server: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server crashes before the transaction is on its disk, and gives its number to the first that comes then."""
    numbers: list[int] = []

    async def crash(connection: AsyncConnection, real: Commit) -> None:
        numbers.append(await connection.scalar(text("SELECT pg_current_xact_id()::text::bigint")))
        postgres_server.kill()
        postgres_server.start()
        with psycopg.connect(database.owner_url, autocommit=True) as other:
            while (other.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,))[0] < numbers[-1]:
                pass
        await real(connection)

    asking = text("SELECT pg_xact_status(CAST(CAST(:n AS text) AS xid8))")
    for _ in range(TRIES):
        once(monkeypatch, crash)
        with pytest.raises(DatabaseAwayError):
            await acceptor.accept(create_call())
        assert count(panel, "operations") == 0
        with panel.connect() as connection:
            status = connection.scalar(asking, {"n": str(numbers[-1])})
        if status == "committed":  # somebody else's
            break
    assert status == "committed", "else this test shows nothing"
    assert (await accepted(acceptor, create_call())).created


async def test_what_was_committed_is_accepted_though_its_answer_is_lost(
    acceptor: Acceptor, panel: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a worker has applied it by then."""
    created = await accepted(acceptor, create_call())

    async def lose(connection: AsyncConnection, real: Commit) -> None:
        await real(connection)
        with panel.connect() as other:
            latest = other.scalar(text("SELECT max(id) FROM operations"))
        assert isinstance(latest, int)
        assert apply_operation(panel, latest).state == "applied"
        raise ConnectionResetError

    once(monkeypatch, lose)
    assert (await accepted(acceptor, update_call(created.vps_id))).created
    assert count(panel, "operations") == 2


async def test_what_was_never_committed_is_not(
    acceptor: Acceptor, panel: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(connection: AsyncConnection, real: Commit) -> None:
        await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    once(monkeypatch, cut)
    with pytest.raises(DatabaseAwayError):
        await acceptor.accept(create_call())
    assert count(panel, "operations") == 0
