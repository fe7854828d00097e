"""More callers than can be served: everybody is answered in time, nothing grows, and it recovers."""

from __future__ import annotations

import asyncio
import json
import time

from runtime.embedded_postgres import EmbeddedPostgres
from tests.integration.edge.conftest import Place, create_vps, posted, spoken
from tests.support.resources import resident_bytes
from tests.support.waiting import wait_until

CALLERS = 200
ANSWER_MS = 2000
GROWTH = 24 * 2**20  # what 200 connections and their tasks may take; a body or a log kept for each would take more


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


def _call(place: Place) -> bytes:
    body = json.dumps(create_vps(os="x" * 200)).encode()
    return posted(place, body)


def _read(place: Place) -> bytes:
    token = place.api.client(5)["Authorization"]
    return f"GET /api/vps HTTP/1.1\r\nHost: panel\r\nAuthorization: {token}\r\n\r\n".encode()


async def test_a_frozen_database_under_load_is_503_in_time(place: Place, postgres_server: EmbeddedPostgres) -> None:
    for _ in range(3):
        assert (await _asked(place.api.port, _call(place)))[0] == 202
        assert (await _asked(place.api.port, _read(place)))[0] == 200
    before, journaled = resident_bytes(place.api.process.pid), place.counted()["operations"]
    answers: list[tuple[int, str, float]] = []
    postgres_server.pause()
    try:
        for _ in range(2):
            raws = [_call(place) if number % 2 else _read(place) for number in range(CALLERS)]
            answers += await asyncio.gather(*(_asked(place.api.port, raw) for raw in raws))
        grown = resident_bytes(place.api.process.pid) - before
    finally:
        postgres_server.resume()
    assert {status for status, _, _ in answers} == {503}
    assert {code for _, code, _ in answers} <= {"database_away", "outcome_unknown", "overloaded"}
    assert sum(code == "outcome_unknown" for _, code, _ in answers) <= 4, "only what may have been under way"
    durations = [e["duration_ms"] for e in place.api.log() if e["event"] == "http_request" and e["status"] == 503]
    assert len(durations) == 2 * CALLERS
    assert max(durations) <= ANSWER_MS
    assert grown < GROWTH, f"grew by {grown / 2**20:.1f} MB"

    def recovered() -> bool:
        answer = spoken(place.api.port, _call(place), timeout_s=10)
        return answer is not None and answer.status == 202

    await asyncio.to_thread(wait_until, recovered, "calls are accepted again", 20)
    assert (await _asked(place.api.port, _read(place)))[0] == 200
    # What was told "nothing was accepted" was not; the others are at most the transactions that were under way.
    assert place.counted()["operations"] - journaled <= 4 + 10


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
