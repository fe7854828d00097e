"""What open pages are told of: the marks of users, as PostgreSQL makes them."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from panel.clients.record_marks import record_marks
from tests.integration.api.client.test_api_freshness import NODE_READ
from tests.integration.api.conftest import Worker
from tests.integration.api.test_api_sync import create

READ = NODE_READ.replace(":ago", "0")
LOOKED_AT = "UPDATE vps SET power_as_of = clock_timestamp() - interval '%s minutes'"
SIGNED_IN = (
    "INSERT INTO client_sessions (token_hash, user_id, credential, expires_at)"
    " VALUES ('%s', %s, 'c', clock_timestamp() + interval '1 hour')"
)
DELETED = "UPDATE vps SET deleted_at = clock_timestamp(), deleted_reason = 'sync'"
CHANGES: list[tuple[str, str, str, set[int]]] = [
    # what was before, what changes, whose marks change
    ("a minute goes by", LOOKED_AT % 5, LOOKED_AT % 6, set()),
    ("nothing confirmed it for too long", LOOKED_AT % 5, LOOKED_AT % 11, {5}),
    ("its node is read again", LOOKED_AT % 11, READ, {5}),
    ("it changes", LOOKED_AT % 5, "UPDATE vps SET version = version + 1", {5}),
    ("it is deleted", LOOKED_AT % 5, DELETED, {5}),
    ("its customer signs in", LOOKED_AT % 5, SIGNED_IN % ("a", 5), {5}),
    ("its customer signs out", SIGNED_IN % ("a", 5), "DELETE FROM client_sessions", {5}),
    ("somebody without a VPS signs in", LOOKED_AT % 5, SIGNED_IN % ("b", 6), {6}),
    ("a session was used", SIGNED_IN % ("a", 5), "UPDATE client_sessions SET seen_at = clock_timestamp()", set()),
]


@pytest.mark.parametrize(("before", "change", "whose"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
async def test_a_mark_changes_with_what_a_page_shows(
    site: httpx.AsyncClient, worker: Worker, engine: Engine, before: str, change: str, whose: set[int]
) -> None:
    call = create(status="running", cluster="pve", node="n1", vmid=100)
    worker.apply((await site.post("/api/vps/sync", json=call)).json()["operation"]["id"])
    with engine.begin() as connection:
        connection.execute(text(before))
    first = await marks(engine)
    assert set(first) == {5, 6}
    assert await marks(engine) == first
    with engine.begin() as connection:
        connection.execute(text(change))
    then = await marks(engine)
    assert {user for user in then if then[user] != first[user]} == whose


async def marks(engine: Engine) -> Mapping[int, str]:
    """Of Anna and Boris."""
    reader = create_async_engine(engine.url)
    try:
        return await record_marks(reader, [5, 6])
    finally:
        await reader.dispose()
