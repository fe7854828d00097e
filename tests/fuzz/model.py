"""What a server may read in the bytes of a connection, and what it may answer.

The whole stream at once, without any code of the panel's, straight from RFC 9112. h11 and llhttp vouch for it, message
by message (:mod:`tests.fuzz.others`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

LIMIT = 16 * 1024  # of a head, and of trailers
CHUNK_LINE = 254

TOKEN = rb"[A-Za-z0-9!#$%&'*+\-.^_`|~]+"
LINE = re.compile(rb"([A-Z][A-Z_-]{0,31}) ([\x21-\x22\x24-\x7e]+) HTTP/1\.([01])")
FIELD = re.compile(rb"(" + TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*)")
ABSOLUTE = re.compile(rb"https?://[^/?@]+(/[^?]*)?(?:\?.*)?", re.IGNORECASE)
HOST = re.compile(rb"([\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?", re.ASCII)
SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(;[\t\x20-\x7e\x80-\xff]*)?")

Verdict = Literal["complete", "incomplete", "bad"]


@dataclass(frozen=True, slots=True)
class Message:
    """A request whose head is right. ``body``: what was read of it; ``end``: where its bytes end, if it is complete."""

    method: str
    target: bytes
    body: bytes
    verdict: Verdict
    start: int
    end: int
    last: bool
    expects: bool
    upgrades: bool

    @property
    def path(self) -> bytes:
        """Without the query and, where the target has one, the host."""
        absolute = ABSOLUTE.fullmatch(self.target)
        return (absolute[1] or b"/") if absolute else self.target.partition(b"?")[0]

    @property
    def answer(self) -> bytes:
        """What the application of the fuzz says to it."""
        read = b"unread" if self.blind else hashlib.sha256(self.body).hexdigest().encode()
        return self.path + b" " + read

    @property
    def blind(self) -> bool:
        """Whether the application answers it without its body."""
        return is_blind(self.path)


def is_blind(path: bytes) -> bool:
    """The application reads the bodies of half of all paths."""
    return hashlib.sha256(path).digest()[0] % 2 == 0


def messages(raw: bytes) -> tuple[list[Message], Verdict]:
    """The requests of a connection, and what is behind them: nothing, or what may yet become one ("incomplete"); what
    is none ("bad"); what nobody reads, since the last request ended the connection ("complete")."""
    found: list[Message] = []
    at = 0
    while True:
        message = _message(raw, at)
        if not isinstance(message, Message):
            return found, message
        found.append(message)
        if message.verdict != "complete":
            return found, message.verdict
        if message.last or (message.expects and message.blind):
            return found, "complete"
        at = message.end


def _message(raw: bytes, at: int) -> Message | Verdict:
    start = at
    if raw[at : at + 2] == b"\r\n":
        at += 2
    head, ended, _ = raw[at : at + LIMIT + 4].partition(b"\r\n\r\n")
    if not ended:
        return "bad" if len(head) >= LIMIT + 4 else "incomplete"
    line, *fields = head.split(b"\r\n")
    if not (asked := LINE.fullmatch(line)):
        return "bad"
    method, target, minor = asked.groups()
    if method == b"CONNECT" or not (target.startswith(b"/") or ABSOLUTE.fullmatch(target)):
        return "bad"
    headers: list[tuple[bytes, bytes]] = []
    for field in fields:
        if not (named := FIELD.fullmatch(field)):
            return "bad"
        headers.append((named[1].lower(), named[2].strip(b" \t")))
    hosts, lengths, codings, options, upgrades, expected = (
        [value for name, value in headers if name == wanted]
        for wanted in (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect")
    )
    old = minor == b"0"
    if len(hosts) > 1 or (not hosts and not old) or not all(HOST.fullmatch(host) for host in hosts):
        return "bad"
    if len(lengths) + len(codings) > 1 or (codings and (old or codings[0].lower() != b"chunked")):
        return "bad"
    if lengths and not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        return "bad"
    tokens = {token.strip(b" \t") for token in b",".join(options).lower().split(b",")}
    last = old or b"close" in tokens or bool(upgrades)
    expects = not old and b",".join(expected).lower() == b"100-continue"
    begin = at + len(head) + 4
    if codings:
        body, verdict, end = _chunked(raw, begin)
    else:
        length = int(lengths[0]) if lengths else 0
        body, end = raw[begin : begin + length], begin + length
        verdict = "complete" if len(body) == length else "incomplete"
    return Message(method.decode(), target, body, verdict, start, end, last, expects, bool(upgrades))


def _chunked(raw: bytes, at: int) -> tuple[bytes, Verdict, int]:
    body = b""
    while True:
        line, ended, _ = raw[at : at + CHUNK_LINE + 2].partition(b"\r\n")
        if not ended:
            return body, "bad" if len(line) == CHUNK_LINE + 2 else "incomplete", at
        if not (size := SIZE.fullmatch(line)):
            return body, "bad", at
        at += len(line) + 2
        length = int(size[1], 16)
        if length == 0:
            break
        body += raw[at : at + length]
        at += length
        if not b"\r\n".startswith(raw[at : at + 2]):
            return body, "bad", at
        if len(raw) < at + 2:
            return body, "incomplete", at
        at += 2
    size_of_all = 0
    while True:
        line, ended, _ = raw[at : at + LIMIT + 3].partition(b"\r\n")
        if size_of_all + len(line) > LIMIT:
            return body, "bad", at
        if not ended:
            return body, "incomplete", at
        at += len(line) + 2
        size_of_all += len(line) + 2
        if not line:
            return body, "complete", at
        if not FIELD.fullmatch(line):
            return body, "bad", at
