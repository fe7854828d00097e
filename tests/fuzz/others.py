"""How others read the bytes of one request: h11, and llhttp, which is uvicorn's and Node's.

Both are laxer than the panel. They may refuse what it takes; if they read it, then just as it does, to the same byte.
"""

from __future__ import annotations

from typing import Any

import h11
import httptools

from tests.fuzz.model import Message


def disagreement(raw: bytes, message: Message) -> str | None:
    """What another parser makes of a complete message; None if that is the same, or nothing."""
    own = raw[message.start : message.end].removeprefix(b"\r\n")
    for name, read in (("h11", _by_h11), ("llhttp", _by_llhttp)):
        for ending in (own, own + b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"):  # which is no part of it
            found = read(ending)
            if found is not None and found != (message.method, message.target, message.body):
                return f"{name} reads {found!r} in {ending!r}, which is {message!r}"
    return None


def _by_h11(raw: bytes) -> tuple[str, bytes, bytes] | str | None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(raw)
    try:
        head = connection.next_event()
        if not isinstance(head, h11.Request):
            return f"no request but {head!r}"
        body = b""
        while isinstance(event := connection.next_event(), h11.Data):
            body += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.EndOfMessage):
        return f"no end but {event!r}"
    rest = connection.trailing_data[0]
    if rest and not rest.startswith(b"GET /next"):
        return f"something left: {rest!r}"
    return head.method.decode(), head.target, body


class _Reading:
    def __init__(self) -> None:
        self.first: tuple[str, bytes, bytes] | None = None
        self.upgrades = False
        self._target = self._body = b""
        self._parser: Any = httptools.HttpRequestParser(self)

    def feed(self, raw: bytes) -> None:
        self._parser.feed_data(raw)

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_headers_complete(self) -> None:
        self.upgrades = self.upgrades or self._parser.should_upgrade()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self.first is None:
            self.first = (self._parser.get_method().decode(), self._target, self._body)


def _by_llhttp(raw: bytes) -> tuple[str, bytes, bytes] | str | None:
    reading = _Reading()
    try:
        reading.feed(raw)
    except httptools.HttpParserUpgrade:
        return None  # it leaves HTTP, which is why the panel does not use it
    except httptools.HttpParserError:
        return reading.first  # of the next request, or of this one
    return None if reading.upgrades else reading.first or "no end"
