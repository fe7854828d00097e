"""HTTP/1.1 requests in a stream of bytes, read exactly as RFC 9112 says.

If a proxy and a server read the same bytes differently, one caller's body can become another caller's request. So
anything that the RFC leaves open, forbids or only tolerates is refused, and the connection ends. No request can switch
to another protocol.

Values in, values out: :mod:`api.http.protocol` has the connection, its deadlines and the answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

HEAD_BYTES = 16 * 1024  # for request line and headers, and again for trailers; a token alone may have 8 KB
CHUNK_LINE_BYTES = 256  # for a chunk's size and its extensions, which are ignored
LENGTH_DIGITS = 18  # of a Content-Length: enough for any body that the panel reads

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_FIELD = _TOKEN + rb":" + _VALUE
FIELD = re.compile(_FIELD)
FIELDS = re.compile(rb"(?:\r\n" + _FIELD + rb")*")
REQUEST_LINE = re.compile(rb"([A-Z][A-Z_-]{0,31}) ([!\"$-~]+) (HTTP/1\.[01])")  # a target has no blank and no "#"
REQUEST_LINE_BEGUN = re.compile(rb"(?:[A-Z][A-Z_-]{0,31}(?: [!\"$-~]*(?: [HTP/1.0]{0,8}\r?)?)?)?")
ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://[^/?@]+(/[^?]*)?(\?.*)?")
HOST = re.compile(rb"(?:[0-9A-Za-z._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
LENGTH = re.compile(rb"[0-9]{1,%d}" % LENGTH_DIGITS)
NEVER_IN_A_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;" + _VALUE + rb")?")
CHUNK_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,8}(?:(?<=[0-9A-Fa-f]);" + _VALUE + rb")?\r?")


FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"})
"""The headers that decide where a request ends and whether the connection stays open."""

SEVERAL = frozenset({b"connection", b"upgrade", b"expect"})
"""Those of FRAMING that a request may repeat, because they are lists. Each of the others may appear only once."""


class InvalidHttpError(Exception):
    """The bytes are not an HTTP/1.1 request. ``message`` is for the caller."""

    def __init__(self, message: str, status_code: int = 400, code: str = "invalid_http") -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code


def _too_large(what: str) -> InvalidHttpError:
    return InvalidHttpError(f"{what} must not exceed {HEAD_BYTES} bytes", 431, "headers_too_large")


@dataclass(slots=True)
class Head:
    """A request line and its headers. ``path`` is decoded, ``raw_path`` is as received."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    """Names in lower case, values without the blanks around them (RFC 9110, 5.5)."""

    length: int | None
    """Of the body, in bytes; None if it comes in chunks."""

    keeps: bool
    """Whether the connection may have another request."""

    continues: bool
    """Whether the caller waits for "100 Continue" before it sends the body."""


class Body(Protocol):
    """The unread rest of a body. ``take`` removes what it reads from the front of the buffer."""

    complete: bool

    def take(self, buffer: bytearray) -> bytes:
        """The content that has arrived. Raises InvalidHttpError."""


def take_head(buffer: bytearray) -> Head | None:
    """The next request's head, removed from the buffer; None while it is incomplete. Raises InvalidHttpError as soon as
    it cannot become a head."""
    start = 2 if buffer.startswith(b"\r\n") else 0  # an empty line before a request is allowed (RFC 9112, 2.2)
    end = buffer.find(b"\r\n\r\n", start, start + HEAD_BYTES + 4)
    if end < 0:
        _require_beginning(buffer[start:])
        return None
    raw = bytes(buffer[start:end])
    del buffer[: end + 4]
    return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    """The head in these bytes, without the empty line that ends it. Raises InvalidHttpError."""
    line, _, rest = raw.partition(b"\r\n")
    method, raw_path, query, version = _request_line(line)
    if len(line) < len(raw) and not FIELDS.fullmatch(raw, len(line)):
        raise InvalidHttpError("A header line is not valid in HTTP/1.1")
    headers = []
    named: dict[bytes, bytes] = {}
    for field in rest.split(b"\r\n") if rest else ():
        name, _, value = field.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        headers.append((name, value))
        if name in FRAMING:
            if name not in named:
                named[name] = value
            elif name in SEVERAL:
                named[name] += b"," + value
            else:
                raise InvalidHttpError(f"The header {name.decode()} must not be sent twice")
    length = _length(named, version)
    # An upgrade is ignored (RFC 9110, 7.8). But a caller that asked for it may go on in the other protocol, so the
    # connection ends after the answer.
    keeps = version == "1.1" and b"upgrade" not in named and b"close" not in _options(named.get(b"connection", b""))
    continues = version == "1.1" and named.get(b"expect", b"").lower() == b"100-continue"
    return Head(method, _decoded(raw_path), raw_path, query, version, headers, length, keeps, continues)


def _length(named: Mapping[bytes, bytes], version: str) -> int | None:
    """The body's length that the headers name; None if the body comes in chunks. Raises InvalidHttpError."""
    if not HOST.fullmatch(named.get(b"host", b"" if version == "1.0" else b"?")):
        raise InvalidHttpError("A request of HTTP/1.1 must have a Host: a name or an address, with or without a port")
    length = named.get(b"content-length")
    coding = named.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise InvalidHttpError("Transfer-Encoding must be chunked or left out")
        if length is not None or version == "1.0":
            raise InvalidHttpError("Transfer-Encoding must not be sent with Content-Length or in HTTP/1.0")
        return None
    if length is None:
        return 0
    if not LENGTH.fullmatch(length):
        raise InvalidHttpError("Content-Length must be one number")
    return int(length)


def _options(connection: bytes) -> list[bytes]:
    return [option.strip(b" \t") for option in connection.lower().split(b",")]


def body_of(head: Head) -> Body:
    """The reader for the body after this head."""
    return Chunked() if head.length is None else Counted(head.length)


class Counted:
    """A body of a known length."""

    __slots__ = ("_left", "complete")

    def __init__(self, length: int) -> None:
        self._left = length
        self.complete = length == 0

    def take(self, buffer: bytearray) -> bytes:
        """The content that has arrived."""
        content = bytes(buffer[: self._left])
        del buffer[: len(content)]
        self._left -= len(content)
        self.complete = self._left == 0
        return content


class Chunked:
    """A body in chunks. Extensions are ignored. Trailers are bounded and dropped: a key, an address or a content type
    after the body does not belong to the request."""

    __slots__ = ("_left", "_next", "_trailers", "complete")

    def __init__(self) -> None:
        self._left = 0
        self._trailers = 0
        self._next = self._size
        self.complete = False

    def take(self, buffer: bytearray) -> bytes:
        """The content that has arrived. Raises InvalidHttpError."""
        content = bytearray()
        while not self.complete:
            if self._left:
                part = buffer[: self._left]
                content += part
                del buffer[: len(part)]
                self._left -= len(part)
                if self._left:
                    break
                self._next = self._end
            if not self._next(buffer):
                break
        return bytes(content)

    def _size(self, buffer: bytearray) -> bool:
        """Read the line before a chunk. Returns whether it has arrived."""
        end = buffer.find(b"\r\n", 0, CHUNK_LINE_BYTES)
        if end < 0:
            if len(buffer) >= CHUNK_LINE_BYTES or not CHUNK_BEGUN.fullmatch(buffer):
                raise InvalidHttpError("A chunk of the body does not begin with its size")
            return False
        line = CHUNK.fullmatch(buffer, 0, end)
        if line is None:
            raise InvalidHttpError("A chunk of the body does not begin with its size")
        self._left = int(line[1], 16)
        del line  # it holds the buffer, which could not be shortened otherwise
        del buffer[: end + 2]
        if not self._left:
            self._next = self._trailer
        return True

    def _end(self, buffer: bytearray) -> bool:
        """Read the line break after a chunk."""
        if not b"\r\n".startswith(buffer[:2]):
            raise InvalidHttpError("A chunk of the body is longer than its size")
        if len(buffer) < 2:
            return False
        del buffer[:2]
        self._next = self._size
        return True

    def _trailer(self, buffer: bytearray) -> bool:
        """Read a line after the last chunk. The empty line ends the body."""
        end = buffer.find(b"\r\n", 0, HEAD_BYTES + 2)
        if self._trailers + (len(buffer) if end < 0 else end) > HEAD_BYTES:
            raise _too_large("Trailers")
        if end < 0:
            if NEVER_IN_A_HEAD.search(buffer):
                raise InvalidHttpError("A trailer is not valid in HTTP/1.1")
            return False
        if end and not FIELD.fullmatch(buffer, 0, end):
            raise InvalidHttpError("A trailer is not valid in HTTP/1.1")
        self.complete = end == 0
        self._trailers += end + 2
        del buffer[: end + 2]
        return True


def _require_beginning(begun: bytearray) -> None:
    """Raise InvalidHttpError if this cannot become a head or is too long for one."""
    if len(begun) >= HEAD_BYTES + 4:
        raise _too_large("The request line and headers")
    if NEVER_IN_A_HEAD.search(begun):
        raise InvalidHttpError("This is not HTTP/1.1")
    line, line_end, _ = begun.partition(b"\r\n")
    if line_end:
        _request_line(bytes(line))
    elif not REQUEST_LINE_BEGUN.fullmatch(line) and line != b"\r":
        raise InvalidHttpError("The request line is not valid in HTTP/1.1")


def _request_line(line: bytes) -> tuple[str, bytes, bytes, str]:
    """Method, path, query and version. Raises InvalidHttpError."""
    parts = REQUEST_LINE.fullmatch(line)
    if parts is None:
        raise InvalidHttpError("The request line is not valid in HTTP/1.1")
    method, target, version = parts.groups()
    if not target.startswith(b"/"):
        absolute = ABSOLUTE.fullmatch(target)
        if absolute is None or method == b"CONNECT":
            raise InvalidHttpError("The request's target must be a path")
        target = (absolute[1] or b"/") + (absolute[2] or b"")
    elif method == b"CONNECT":
        raise InvalidHttpError("CONNECT is not possible here")
    path, _, query = target.partition(b"?")
    return method.decode(), path, query, version[5:].decode()


def _decoded(raw_path: bytes) -> str:
    path = raw_path.decode("ascii")
    return unquote(path) if "%" in path else path
