"""Bytes that a connection may bring: requests as they should be, with everything in them that was ever read in two
ways, and broken at random. One seed, one stream."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE", b"QUERY", b"FOO-BAR"]
HOSTS = [b"panel", b"panel:5050", b"[::1]:80", b"", b"10.0.0.1"]
HEADERS = [
    b"Connection: Upgrade\r\nUpgrade: websocket",
    b"Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA",
    b"Upgrade: x", b"Connection: Upgrade", b"Connection: close", b"Connection: keep-alive", b"Connection: a,close ,b",
    b"Expect: 100-continue", b"Expect: 200-ok", b"TE: trailers", b"Trailer: X-API-Key", b"X-Forwarded-For: 1.2.3.4",
    b"Cookie: a=b; c=\"d\"", b"X-Empty:", b"X-Blank: \t ", b"X-High: \xff\xfe\x80", b"Content-Type: application/json",
    b"Transfer_Encoding: chunked", b"Content_Length: 7", b"X-Content-Length: 3", b"Content-Lengthy: 3",
    b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"Range: bytes=0-1", b"X-HTTP-Method-Override: PUT",
    b"Accept-Encoding: gzip, chunked", b"Via: 1.0 chunked",
]  # fmt: skip
ODD_LINES = [
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked\x00", b"transfer-encoding:CHUNKED", b"Transfer-Encoding: \"chunked\"",
    b"Transfer-Encoding:\r\n chunked", b" Transfer-Encoding: chunked", b"Transfer-Encoding",
    b"TRANSFER-ENCODING:chunked,",
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 40", b"Content-Length: -1", b"Content-Length: +5",
    b"Content-Length: 5, 5", b"Content-Length: 0x10", b"Content-Length: 99999999999999999999", b"Content-Length: 1e1",
    b"Content-Length:5", b"Content-Length : 5", b"Content-Length:\x0c5", b"Content-Length: 005",
    b"Content-Length: \xb2",
    b"Host: other", b"Host: a b", b"Host : panel", b"Host:", b": x", b"no colon", b"\tfolded", b" folded", b"a b: c",
    b"X: a\rY: b", b"X: a\nContent-Length: 3", b"X: \x00", b"X\x00: y", b"Connection: close, Upgrade\r\nUpgrade: h2c",
    b"Content-Length: 3\rX: y", b"\r", b"\xe2\x80\x8bContent-Length: 3",
]  # fmt: skip
VERSIONS = [b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/3", b"http/1.1", b"HTTP/1.1x", b"HTTP/01.1", b"ICE/1.0", b""]
ODD_EXTENSIONS = [
    b" ",
    b"\t;a",
    b";a\nb",
    b";\x00",
    b";\x7f",
    b"x",
    b"+",
    b" ;a",
    b";a\rb",
    b";" + b"a" * 300,
    b"\n",
    b"\r",
]
ODD = 0.03
PIECES = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xff", b" ",
    b"\t", b":", b";", b",", b"#", b"?", b"%0A", b"%", b"*", b"0", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"1\r\nx\r\n",
    b"ffffffff\r\n", b"fffffffff\r\n", b"-1\r\n", b"0x1\r\nx\r\n", b"1 \r\nx\r\n", b"1;\r\nx\r\n", b"1;a\nb\r\nx\r\n",
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1 ", b"http/1.1", b"GET ", b"POST ", b"CONNECT ",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /odd HTTP/1.1\r\nHost: panel\r\n\r\n", b"GET /odd\r\n",
    b"\x16\x03\x01\x00",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stream:
    """What a connection brings, and where it is cut into reads."""

    raw: bytes
    cuts: tuple[int, ...]

    def reads(self) -> list[bytes]:
        """The bytes as they arrive."""
        bounds = [0, *self.cuts, len(self.raw)]
        return [self.raw[a:b] for a, b in pairwise(bounds) if a < b]


def stream(seed: int) -> Stream:
    """Some requests; two of three streams are broken somewhere."""
    draw = random.Random(seed)
    requests = [request(draw, f"{seed}-{number}") for number in range(draw.randint(1, 4))]
    raw = b"".join(requests)
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        raw = broken(draw, raw)
    kind = draw.randint(0, 3)
    if kind == 0 or not raw:
        cuts: tuple[int, ...] = ()
    elif kind == 1 and len(raw) < 500:
        cuts = tuple(range(1, len(raw)))
    else:
        cuts = tuple(sorted(draw.randrange(len(raw)) for _ in range(draw.randint(1, 6))))
    return Stream(raw, cuts)


def request(draw: random.Random, token: str) -> bytes:
    """One that is right. Its body, if it has one, holds requests for ``/smuggled``."""
    method, version = draw.choice(METHODS), draw.choice((b"HTTP/1.1",) * 9 + (b"HTTP/1.0",))
    if draw.random() < ODD:
        version = draw.choice(VERSIONS)
    target = b"/asked/" + token.encode() + draw.choice((b"", b"", b"?a=b&c=%0A", b"/%2e%2e/x", b"?"))
    if draw.random() < 0.05:
        target = b"http://panel" + target
    lines = [b"%s %s %s" % (method, target, version), b"Host: " + draw.choice(HOSTS)]
    lines += [draw.choice(HEADERS) for _ in range(draw.choice((0, 0, 1, 2, 4)))]
    body = _body(draw, token)
    match draw.choice(("none", "length", "length", "chunks", "chunks" if version == b"HTTP/1.1" else "length")):
        case "length":
            lines.append(b"Content-Length: %d" % len(body))
        case "chunks" if version == b"HTTP/1.1":
            lines.append(draw.choice((b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked")))
            body = _chunked(draw, body)
        case _:
            body = b""
    first, *rest = lines
    draw.shuffle(rest)
    start = b"\r\n" if draw.random() < 0.03 else b""
    return start + b"\r\n".join([first, *rest]) + b"\r\n\r\n" + body


def _body(draw: random.Random, token: str) -> bytes:
    smuggled = b"GET /smuggled/%s HTTP/1.1\r\nHost: panel\r\nX-Eaten: " % token.encode()
    return draw.choice(
        (b"", b"{}", smuggled, smuggled + b"x\r\n\r\n", b"\r\n\r\n" + smuggled, b"0\r\n\r\n" + smuggled + b"\r\n\r\n",
         b"x" * draw.randint(1, 3000), draw.randbytes(draw.randint(1, 60)), b"1\r\nx\r\n0\r\n\r\n" + smuggled)
    )  # fmt: skip


def _chunked(draw: random.Random, body: bytes) -> bytes:
    out = b""
    while body:
        size = draw.choice((1, 2, 7, len(body), len(body)))
        part, body = body[:size], body[size:]
        spelled = draw.choice((b"%x", b"%X", b"00%x")) % len(part)
        extension = draw.choice(ODD_EXTENSIONS if draw.random() < ODD else (b"", b"", b"", b";a=b", b";", b';a="\xff"'))
        out += spelled + extension + b"\r\n" + part + b"\r\n"
    trailers = draw.choice((b"",) * 4 + (b"X-API-Key: key\r\n", b"Content-Length: 5\r\nX: y\r\n", b"Upgrade: h2c\r\n"))
    return out + draw.choice((b"0", b"0", b"000", b"0;x")) + b"\r\n" + trailers + b"\r\n"


def broken(draw: random.Random, raw: bytes) -> bytes:
    """The stream with one thing wrong, or at least odd."""
    at = draw.randrange(len(raw) + 1)
    to = min(len(raw), at + draw.choice((1, 1, 2, 5, 30)))
    lines = raw.split(b"\r\n")
    line = draw.randrange(len(lines))
    match draw.randint(0, 9):
        case 0:
            return raw[:at] + raw[to:]
        case 1:
            return raw[:at] + draw.choice(PIECES) + raw[at:]
        case 2:
            return raw[:at] + draw.choice(PIECES) + raw[to:]
        case 3:
            return raw[:at] + raw[at:to] * 2 + raw[to:]
        case 4:
            return raw[:at]
        case 5:
            return b"\r\n".join(lines[:line] + lines[line + 1 :])
        case 6:
            return b"\r\n".join([*lines[:line], lines[line], *lines[line:]])
        case 7:
            return raw.replace(b"\r\n", draw.choice((b"\n", b"\r", b"\r\r\n", b"\n\r")), draw.choice((1, 3, -1)))
        case _:
            return b"\r\n".join([*lines[:line], draw.choice(ODD_LINES), *lines[line:]])
