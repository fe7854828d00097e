"""Decompresses an answer's body, never further than its limit."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from sources.outgoing.faults import Malformed

_GZIP = 16 + zlib.MAX_WBITS
BROKEN = "the answer's compression is broken"
_STEP = 256 * 1024
"""Bytes to decompress at once. The size is checked after each step."""

_MEMBERS = 10_000
"""The most members of a gzip body. Each takes time to start, even an empty one."""


def is_gzip(codings: Iterable[str]) -> bool:
    """Whether the body is compressed, by the values of ``Content-Encoding``.

    Raises ``Malformed`` for another coding and for several: nested codings multiply the size, and no server needs two.
    """
    named = [coding.strip().lower() for value in codings for coding in value.split(",") if coding.strip()]
    if named in ([], ["identity"]):
        return False
    if named in (["gzip"], ["x-gzip"]):
        return True
    raise Malformed("the answer is compressed in a way that was not asked for (only gzip, once)")


def body_of(chunks: Iterable[bytes], *, gzip: bool, limit: int) -> bytes:
    """The whole body, of at most ``limit`` bytes after decompression. Raises ``Malformed``."""
    if gzip:
        unpacking = _Unpacking(limit)
        for arrived in chunks:
            unpacking.take(arrived)
        return unpacking.whole()
    body = bytearray()
    for arrived in chunks:
        body += arrived
        _check(len(body), limit)
    return bytes(body)


class _Unpacking:
    """A gzip body as it arrives. It may have several members, one after the other."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._body = bytearray()
        self._member = zlib.decompressobj(_GZIP)
        self._members = 1

    def take(self, rest: bytes) -> None:
        """Add the content of the next bytes, checking the size at each step."""
        while True:
            if self._member.eof:
                if not rest:
                    return
                self._begin_another()
            step = min(_STEP, self._limit + 1 - len(self._body))
            try:
                piece = self._member.decompress(rest, step)
            except zlib.error:
                raise Malformed(BROKEN) from None
            self._body += piece
            _check(len(self._body), self._limit)
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if not rest and len(piece) < step:
                return

    def whole(self) -> bytes:
        """The complete body."""
        if not self._member.eof:
            raise Malformed(BROKEN)
        return bytes(self._body)

    def _begin_another(self) -> None:
        self._members += 1
        if self._members > _MEMBERS:
            raise Malformed(BROKEN)
        self._member = zlib.decompressobj(_GZIP)


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise Malformed(f"the answer is larger than {limit} bytes")
