"""Through a real proxy nobody's body is a request, nobody's answer is another's, and no key is another's.

Needs Caddy, nginx and HAProxy (``apt install caddy nginx-light haproxy``): a step of ``.ci/run``, not of ``make test``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.fuzz.streams import stream
from tests.proxies.proxies import KINDS, MARK, proxy, said
from tests.proxies.recording import Recording, recording
from tests.support.keys import random_key
from tests.support.resources import resident_bytes
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.proxies

FUZZ_S = float(os.environ.get("FUZZ_S", "60"))
KEPT = sorted((Path(__file__).parents[1] / "fuzz" / "kept").glob("*.bin"))


@dataclass(frozen=True, slots=True)
class Front:
    """A proxy before a server that remembers."""

    port: int
    mark: str
    behind: Recording

    def unmarked(self) -> list[str]:
        """What the server read as requests and the proxy did not."""
        return [f"{one.method} {one.path} with {one.keys}" for one in self.behind.requests if one.mark != self.mark]


@pytest.fixture(scope="module", params=list(KINDS))
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    mark = random_key()
    with (
        recording() as behind,
        proxy(KINDS[request.param], behind.port, mark, tmp_path_factory.mktemp("proxy")) as port,
    ):
        yield Front(port, mark, behind)


class Victim:
    """Somebody who calls with a key, again and again; each answer must be the one to what was asked."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{front.port}", trust_env=False, timeout=PATIENCE_S)
        self.key = random_key()
        self.calls = 0

    def calls_on(self, times: int) -> None:
        for _ in range(times):
            self.calls += 1
            path = f"/victim/{self.key[:8]}/{self.calls}"
            answer = self._http.post(path, content=path.encode(), headers={"X-API-Key": self.key})
            if answer.status_code in {502, 503}:  # a connection that ended between two requests; nothing was read
                continue
            assert (answer.status_code, answer.json()["path"]) == (200, path)

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def victim(front: Front) -> Iterator[Victim]:
    made = Victim(front)
    yield made
    made.close()


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: panel\r\n"
BODIES = [
    ("a whole request", SMUGGLED + b"\r\n"),
    ("one that eats the next", SMUGGLED + b"X-Eaten: "),
    ("one behind what fills a read", b"\r\n" * 200_000 + SMUGGLED + b"X-Eaten: "),
]
WISHES = [
    ("no upgrade", b""),
    ("anything", b"Connection: Upgrade\r\nUpgrade: anything\r\n"),
    ("h2c", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
    ("a websocket", b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("body", [row[1] for row in BODIES], ids=[row[0] for row in BODIES])
@pytest.mark.parametrize("wish", [row[1] for row in WISHES], ids=[row[0] for row in WISHES])
@pytest.mark.parametrize("chunked", [False, True], ids=["a length", "chunks"])
def test_nobody_s_body_is_a_request(front: Front, victim: Victim, wish: bytes, body: bytes, chunked: bool) -> None:
    victim.calls_on(3)
    attacked = f"/attack/{random_key()[:12]}"
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    head = b"POST %s HTTP/1.1\r\nHost: panel\r\n%s%s\r\n\r\n" % (attacked.encode(), wish, framing)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE_S) as attacker:
            front.behind.go.clear()
            front.behind.begun.clear()
            attacker.sendall(head)
            front.behind.begun.wait(0.3)  # some proxies send a head only with its body
            attacker.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)
            assert front.behind.begun.wait(PATIENCE_S)
            said(attacker, for_s=0.1)
            front.behind.go.set()
            answer = said(attacker, for_s=PATIENCE_S, until=b"}")
        assert b" 200 " in answer, answer
        assert attacked.encode() in answer, answer
        victim.calls_on(3)
    assert front.unmarked() == []
    assert [one.body for one in front.behind.requests if one.path == attacked] == [body] * 3


def test_a_trailer_takes_nothing_from_the_proxy(front: Front) -> None:
    raw = (
        b"POST /trailers HTTP/1.1\r\nHost: panel\r\nTransfer-Encoding: chunked\r\nTrailer: %s, X-API-Key\r\n\r\n"
        b"2\r\n{}\r\n0\r\n%s: forged\r\nX-API-Key: forged\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n"
    ) % (MARK.encode(), MARK.encode())
    with socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE_S) as caller:
        caller.sendall(raw)
        assert b" 200 " in said(caller, for_s=PATIENCE_S, until=b"}")
    assert front.unmarked() == []
    assert {one.keys for one in front.behind.requests if one.path == "/trailers"} == {()}


@pytest.mark.parametrize("raw", [pytest.param(place.read_bytes(), id=place.stem) for place in KEPT])
def test_what_was_found_once(front: Front, victim: Victim, raw: bytes) -> None:
    for cut in (len(raw), raw.find(b"\r\n\r\n") + 4):
        with socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE_S) as caller:
            caller.sendall(raw[:cut])
            said(caller, for_s=0.05)
            try:
                caller.sendall(raw[cut:])
            except ConnectionError:
                continue
            said(caller, for_s=0.05)
        victim.calls_on(2)
    assert front.unmarked() == []


@pytest.mark.fuzz
@pytest.mark.timeout(FUZZ_S + 900)
def test_any_bytes(front: Front, victim: Victim, capsys: pytest.CaptureFixture[str]) -> None:
    """For a share of FUZZ_S. Memory: of this process, which has the server in it."""
    ends = time.monotonic() + FUZZ_S / len(KINDS)
    first, tried, before = time.time_ns() % 2**40, 0, 0
    while time.monotonic() < ends or tried < 50:
        one = stream(first + tried)
        reads = one.reads() if len(one.cuts) <= 6 else [one.raw]
        with socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE_S) as caller:
            for read in reads:
                try:
                    caller.sendall(read)
                except ConnectionError:
                    break
                said(caller, for_s=0.002)
            said(caller, for_s=0.005)
        victim.calls_on(1)
        assert front.unmarked() == [], f"seed {first + tried}: {one.raw!r}"
        front.behind.requests.clear()
        tried += 1
        if tried == 50:
            before = resident_bytes(os.getpid())
    grown = resident_bytes(os.getpid()) - before
    with capsys.disabled():
        print(f"\n{tried} streams from seed {first} on, {victim.calls} calls; memory grew by {grown / 2**20:.1f} MB")  # noqa: T201
    assert grown < 32 * 2**20
