"""Auditing calls that are refused at the edge: all of it, but never at the cost of those that are good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import psycopg
import pytest
import structlog
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from panel.journal.accept import REFUSALS_LIMIT, Acceptor
from panel.journal.calls import Refused
from tests.integration.panel.conftest import accepted, count, refused
from tests.support.calls import create_call, update_call
from tests.support.databases import Database

REFUSED = Refused(422, "invalid_field", "vps.ram must be in MB")


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[AsyncEngine]:
    """As many connections as an API process has for its calls."""
    made = database.api_engine("panel-sync test api", pool_size=6)
    yield made
    await made.dispose()


@pytest.fixture
def logged() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as events:
        yield events


def refuse_many(acceptor: Acceptor, number: int) -> list[asyncio.Task[None]]:
    """Calls of as many requests."""
    calls = [replace(update_call(n + 1), request_id=f"r-{n}") for n in range(number)]
    return [asyncio.create_task(acceptor.audit(call, REFUSED)) for call in calls]


async def test_many_at_once_are_all_noted(acceptor: Acceptor, panel: Engine) -> None:
    await asyncio.gather(*refuse_many(acceptor, 300))
    assert count(panel, "refused_calls") == 300
    await acceptor.audit(update_call(1), REFUSED)
    assert count(panel, "refused_calls") == 301


async def test_a_flood_of_them_that_cannot_be_written_keeps_no_good_call_waiting(
    acceptor: Acceptor, panel: Engine, database: Database, logged: list[structlog.typing.EventDict]
) -> None:
    with psycopg.connect(database.owner_url) as holder:
        holder.execute("LOCK TABLE refused_calls IN EXCLUSIVE MODE")
        audits = refuse_many(acceptor, 2 * REFUSALS_LIMIT)
        await asyncio.sleep(0)
        for _ in range(3):
            await accepted(acceptor, create_call())
    await asyncio.gather(*audits)
    assert count(panel, "operations") == 3
    assert 0 < count(panel, "refused_calls") <= REFUSALS_LIMIT
    assert "too many" in [event["error"] for event in logged if event["event"] == "refused_calls_not_audited"]


async def test_a_key_that_was_used_for_another_call_leaves_a_row(acceptor: Acceptor, panel: Engine) -> None:
    await accepted(acceptor, create_call(key="k"))
    assert (await refused(acceptor, create_call(key="k", name="other"))).code == "idempotency_key_reused"
    assert count(panel, "refused_calls") == 1
