"""More callers than can be served: everybody is answered in time, nothing grows, and it recovers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from panel.sessions import sync_engine
from runtime.servers.embedded_postgres import EmbeddedPostgres
from tests.integration.edge.conftest import USER, Place, create_vps, posted
from tests.support.api_process import api_process
from tests.support.databases import Databases
from tests.support.fleets.world import add_user
from tests.support.resources import resident_bytes
from tests.support.waiting import PATIENCE_S

CALLERS = 200
GROWTH = 24 * 2**20  # what 200 connections and their tasks may take; a body or a log kept for each would take more

pytestmark = pytest.mark.faults


async def _asked(port: int, raw: bytes) -> tuple[int, str]:
    """Status and code of one call on a connection of its own."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = json.loads(await reader.readexactly(length))
        finally:
            writer.close()
    return int(head.split()[1]), body.get("code", "")


def _call(place: Place, name: str = "web") -> bytes:
    body = json.dumps(create_vps(name=name, os="x" * 200)).encode()
    return posted(place, body)


def _journaled(place: Place) -> set[str]:
    """The names of all creates in the journal."""
    with place.engine.connect() as connection:
        return set(connection.scalars(text("SELECT payload ->> 'name' FROM operations")))


def _read(place: Place) -> bytes:
    token = place.api.client(5)["Authorization"]
    return f"GET /api/vps HTTP/1.1\r\nHost: panel\r\nAuthorization: {token}\r\n\r\n".encode()


@pytest.fixture
def hasty(databases: Databases, tmp_path: Path) -> Iterator[Place]:
    """An API with production's deadlines."""
    database = databases.clone()
    engine = sync_engine(database.app_url, "panel-sync test", pool_size=2)
    add_user(engine, USER)
    with api_process(database, tmp_path, {"ANSWER_WITHIN_S": "2"}) as api:
        yield Place(api, engine)
    engine.dispose()
    databases.drop(database)


async def _well(place: Place) -> None:
    """Until a call and a read succeed: on a busy machine a 503 may be right, too."""
    for raw, wanted in ((_call(place), 202), (_read(place), 200)):
        while (status := (await _asked(place.api.port, raw))[0]) != wanted:
            assert status == 503


async def test_a_frozen_database_under_load_is_503_in_time(hasty: Place, postgres_server: EmbeddedPostgres) -> None:
    """Everybody is answered while it is frozen. :mod:`panel.deadlines` says after how long, and has a test of its own;
    if one waited for the other, the last would not be answered here."""
    place = hasty
    for _ in range(3):
        await _well(place)
    before = resident_bytes(place.api.process.pid)
    answers: dict[str, str] = {}
    postgres_server.pause()
    try:
        for turn in range(2):
            names = [f"call-{turn}-{number}" for number in range(CALLERS)]
            raws = [_call(place, name) if number % 2 else _read(place) for number, name in enumerate(names)]
            told = await asyncio.gather(*(_asked(place.api.port, raw) for raw in raws))
            assert {status for status, _ in told} == {503}
            answers |= {name: code for name, (_, code) in zip(names, told, strict=True)}
        grown = resident_bytes(place.api.process.pid) - before
    finally:
        postgres_server.resume()
    assert set(answers.values()) <= {"database_away", "outcome_unknown", "overloaded"}
    assert grown < GROWTH, f"grew by {grown / 2**20:.1f} MB"
    await _well(place)
    accepted = {name for name, code in answers.items() if name in _journaled(place) and code != "outcome_unknown"}
    assert not accepted, "they were told that nothing was accepted"


async def test_slow_heads_and_bodies_keep_nobody_waiting(place: Place) -> None:
    slow = []
    for number in range(CALLERS):
        _, writer = await asyncio.open_connection("127.0.0.1", place.api.port)
        whole = _call(place)
        writer.write(whole[: len(whole) // 4 if number % 2 else len(whole) - 10])
        slow.append(writer)
    try:
        answers = [await _asked(place.api.port, _call(place)) for _ in range(10)]
    finally:
        for writer in slow:
            writer.close()
    assert [status for status, _ in answers] == [202] * 10, "while the slow ones are still there"
