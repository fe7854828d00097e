"""The fuzz can fail: each guard of the reading is broken in turn, and the sample finds it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from api.http import framing
from api.http.framing import Chunked, Head, InvalidHttpError
from api.http.protocol import BoundedHttp, Exchange
from tests.fuzz.judge import wrong_with
from tests.fuzz.streams import stream
from tests.fuzz.wire import Server

STREAMS = 3_000

Break = Callable[[pytest.MonkeyPatch], None]


def _pattern(name: str, pattern: bytes) -> Break:
    return lambda monkeypatch: monkeypatch.setattr(framing, name, re.compile(pattern))


def _length(change: Callable[[dict[bytes, bytes]], object]) -> Break:
    """The framing as if the headers were others."""
    right = framing._length

    def wrong(named: Mapping[bytes, bytes], version: str) -> int | None:
        changed = dict(named)
        change(changed)
        return right(changed, version)

    return lambda monkeypatch: monkeypatch.setattr(framing, "_length", wrong)


def _llhttp_s_upgrade(named: dict[bytes, bytes]) -> None:
    if b"upgrade" in named and b"upgrade" in named.get(b"connection", b"").lower():
        named.pop(b"content-length", None)
        named.pop(b"transfer-encoding", None)


def _length_beside_chunks(named: dict[bytes, bytes]) -> None:
    if b"transfer-encoding" in named:
        named.pop(b"content-length", None)


def _unknown_codings(named: dict[bytes, bytes]) -> None:
    if named.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        del named[b"transfer-encoding"]


def _chunks_in_http_1_0(monkeypatch: pytest.MonkeyPatch) -> None:
    right = framing._length
    monkeypatch.setattr(framing, "_length", lambda named, _version: right({b"host": b"", **named}, "1.1"))


def _no_end_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    def skip(self: Chunked, buffer: bytearray) -> bool:
        if len(buffer) < 2:
            return False
        del buffer[:2]
        self._next = self._size
        return True

    monkeypatch.setattr(Chunked, "_end", skip)


def _no_trailers(monkeypatch: pytest.MonkeyPatch) -> None:
    def complete(self: Chunked, _buffer: bytearray) -> bool:
        self.complete = True
        return True

    monkeypatch.setattr(Chunked, "_trailer", complete)


def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    right = framing.parse_head

    def parse(raw: bytes) -> Head:
        head = right(raw)
        head.keeps = True
        return head

    monkeypatch.setattr(framing, "parse_head", parse)


def _refused_though_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    right = BoundedHttp._refuse

    def refuse(self: BoundedHttp, error: InvalidHttpError) -> None:
        if self.cycle is not None and self.cycle.response_complete:
            self._body = None
        right(self, error)

    monkeypatch.setattr(BoundedHttp, "_refuse", refuse)


def _refused_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHttp, "_answering", lambda _self: False)


def _a_body_that_nobody_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(self: Exchange, message: Any) -> None:
        await super(Exchange, self).send(message)

    monkeypatch.setattr(Exchange, "send", send)


def _reading_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    right = BoundedHttp._refuse

    def refuse(self: BoundedHttp, error: InvalidHttpError) -> None:
        right(self, error)
        self._drops_input = False

    monkeypatch.setattr(BoundedHttp, "_refuse", refuse)


LAX = rb"(?:\r?\n[^\r\n:]*:[^\r\n]*)*"
GUARDS: list[tuple[str, Break]] = [
    ("an upgrade hides the body", _length(_llhttp_s_upgrade)),
    ("a length beside chunks", _length(_length_beside_chunks)),
    ("another coding is none", _length(_unknown_codings)),
    ("chunks in HTTP/1.0", _chunks_in_http_1_0),
    ("no Host", _length(lambda named: named.setdefault(b"host", b""))),
    ("any Host", _pattern("HOST", rb"[^?]*")),
    ("a length that is no number", _length(lambda named: named.update({b"content-length": b"7"})
                                           if not named.get(b"content-length", b"0").isdigit() else None)),
    ("several lengths", lambda monkeypatch: monkeypatch.setattr(framing, "SEVERAL", framing.FRAMING)),
    ("lax header lines", _pattern("FIELDS", LAX)),
    ("lax trailers", _pattern("FIELD", rb"[^\r\n]*")),
    ("any version", _pattern("REQUEST_LINE", rb"([A-Z][A-Z_-]{0,31}) ([!\"$-~]+) (HTTP/[0-9]\.[0-9])")),
    ("any target", _pattern("ABSOLUTE", rb"()(.*)")),
    ("blanks behind a chunk's size", _pattern("CHUNK", rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")),
    ("control characters in an extension", _pattern("CHUNK", rb"(?s)([0-9A-Fa-f]{1,8})(?:;.*)?")),
    ("a chunk that ends anywhere", _no_end_of_a_chunk),
    ("trailers are what comes next", _no_trailers),
    ("the connection is always kept", _kept),
    ("a refusal behind the answer", _refused_though_answered),
    ("no waiting for the answer", _refused_before_the_answer),
    ("a body that was not asked for", _a_body_that_nobody_was_asked_for),
    ("reading goes on behind a refusal", _reading_goes_on),
]  # fmt: skip


@pytest.mark.parametrize("broken", [row[1] for row in GUARDS], ids=[row[0] for row in GUARDS])
async def test_a_broken_guard_is_found(monkeypatch: pytest.MonkeyPatch, broken: Break) -> None:
    broken(monkeypatch)
    server = Server()
    for seed in range(STREAMS):
        try:
            if await wrong_with(server, stream(seed)) is not None:
                return
        except Exception:  # noqa: BLE001 - whatever the broken protocol raises, it is found
            return
    raise AssertionError(f"not found within {STREAMS} streams")
