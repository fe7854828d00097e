"""Bytes of any kind at the HTTP edge: never more answers than requests, never a byte of one request read as another.

A sample of streams and all that are kept in ``kept/`` run with the tests; ``-m fuzz`` goes on for FUZZ_S seconds
(60; ten minutes in ``make soak``). A stream that fails is shortened and written into ``kept/``, to stay there.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.fuzz import streams
from tests.fuzz.judge import shortest_failing, wrong_with
from tests.fuzz.wire import Server
from tests.support.resources import resident_bytes

KEPT = Path(__file__).parent / "kept"
SAMPLE = 1_000
FUZZ_S = float(os.environ.get("FUZZ_S", "60"))
WARM_UP = 2_000  # streams, after which the process has the memory that it needs
GROWTH = 8 * 2**20


async def _try(server: Server, stream: streams.Stream) -> None:
    wrong = await wrong_with(server, stream)
    if wrong is None:
        return
    least = await shortest_failing(server, stream)
    place = KEPT / f"{hashlib.sha256(least.raw).hexdigest()[:12]}.bin"
    place.write_bytes(least.raw)
    pytest.fail(f"{wrong}; the shortest that fails, now in {place}: {least.raw!r}, read as {least.reads()!r}")


async def test_a_sample() -> None:
    server = Server()
    for seed in range(SAMPLE):
        await _try(server, streams.stream(seed))


@pytest.mark.parametrize(
    "raw", [pytest.param(place.read_bytes(), id=place.stem) for place in sorted(KEPT.glob("*.bin"))]
)
async def test_what_was_found_once(raw: bytes) -> None:
    """Each of these was read in two ways, by this server or by one that it replaced."""
    server = Server()
    ways: Iterable[tuple[int, ...]] = ((), tuple(range(1, len(raw))), *((cut,) for cut in range(1, len(raw))))
    for cuts in ways:
        await _try(server, streams.Stream(raw, cuts))


@pytest.mark.fuzz
@pytest.mark.timeout(FUZZ_S + 900)
async def test_any_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    first = random.SystemRandom().randrange(2**40)
    ends = time.monotonic() + FUZZ_S
    tried, before = 0, 0
    while time.monotonic() < ends or tried <= WARM_UP:
        await _try(server, streams.stream(first + tried))
        tried += 1
        if tried == WARM_UP:
            before = resident_bytes(os.getpid())
    grown = resident_bytes(os.getpid()) - before
    with capsys.disabled():
        print(f"\n{tried} streams from seed {first} on; memory grew by {grown / 2**20:.1f} MB")  # noqa: T201
    assert grown < GROWTH
