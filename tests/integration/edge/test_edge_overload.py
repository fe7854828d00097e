"""More callers than can be served: everybody is answered in time, nothing grows, and it recovers."""

from __future__ import annotations

import asyncio
import json
import statistics
import time

import pytest
from sqlalchemy import text

from runtime.embedded_postgres import EmbeddedPostgres
from tests.integration.edge.conftest import Place, create_vps, posted, spoken
from tests.support.resources import resident_bytes
from tests.support.waiting import wait_until

CALLERS = 200
ANSWER_MS = 2000
BUSY_MACHINE_MS = 1000  # what a test machine under other load may add to the slowest of them
GROWTH = 24 * 2**20  # what 200 connections and their tasks may take; a body or a log kept for each would take more

pytestmark = pytest.mark.faults


async def _asked(port: int, raw: bytes) -> tuple[int, str, float]:
    """Status, code and seconds of one call on a connection of its own."""
    began = time.monotonic()
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = json.loads(await reader.readexactly(length))
        finally:
            writer.close()
    return int(head.split()[1]), body.get("code", ""), time.monotonic() - began


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


async def test_a_frozen_database_under_load_is_503_in_time(place: Place, postgres_server: EmbeddedPostgres) -> None:
    for _ in range(3):
        assert (await _asked(place.api.port, _call(place)))[0] == 202
        assert (await _asked(place.api.port, _read(place)))[0] == 200
    before = resident_bytes(place.api.process.pid)
    answers: dict[str, str] = {}
    postgres_server.pause()
    try:
        for turn in range(2):
            names = [f"call-{turn}-{number}" for number in range(CALLERS)]
            raws = [_call(place, name) if number % 2 else _read(place) for number, name in enumerate(names)]
            told = await asyncio.gather(*(_asked(place.api.port, raw) for raw in raws))
            assert {status for status, _, _ in told} == {503}
            answers |= {name: code for name, (_, code, _) in zip(names, told, strict=True)}
        grown = resident_bytes(place.api.process.pid) - before
    finally:
        postgres_server.resume()
    assert set(answers.values()) <= {"database_away", "outcome_unknown", "overloaded"}
    durations = wait_until(lambda: _refused_ms(place), "a line of each")
    assert durations is not None
    assert statistics.quantiles(durations, n=10)[-1] <= ANSWER_MS, "nine of ten"
    assert max(durations) <= ANSWER_MS + BUSY_MACHINE_MS
    assert grown < GROWTH, f"grew by {grown / 2**20:.1f} MB"

    def recovered() -> bool:
        answer = spoken(place.api.port, _call(place), timeout_s=10)
        return answer is not None and answer.status == 202

    await asyncio.to_thread(wait_until, recovered, "calls are accepted again", 20)
    assert (await _asked(place.api.port, _read(place)))[0] == 200
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
    assert [status for status, _, _ in answers] == [202] * 10
    assert max(seconds for _, _, seconds in answers) < 1.0


def _refused_ms(place: Place) -> list[float] | None:
    """How long each answer of 503 took, once all are in the log: an answer is sent before its line is written."""
    said = [e["duration_ms"] for e in place.api.log() if e["event"] == "http_request" and e["status"] == 503]
    return said if len(said) == 2 * CALLERS else None
