"""The header ``traceparent`` (W3C Trace Context): which trace a call, a message or a task belongs to. Pure.

Only this header is read. ``tracestate`` and ``baggage`` may hold anything, so nothing of them is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

LENGTH = 55
"""Characters of a header of version 00."""

_FORM = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-[\x21-\x7e]*)?",
    re.ASCII,
)
_SAMPLED = 1


def valid_traceparent(given: Sequence[str]) -> str | None:
    """The header as version 00 writes it, ``LENGTH`` characters; None if it was not given, given twice, or is wrong.

    A later version may be longer. Its first four parts mean the same, and of its flags only "sampled" is kept.
    """
    match = _FORM.fullmatch(given[0]) if len(given) == 1 and len(given[0]) <= 256 else None
    if match is None or (match["version"] == "00" and match["more"] is not None):
        return None
    return written(match["trace"], match["span"], sampled=bool(int(match["flags"], 16) & _SAMPLED))


def written(trace_id: str, span_id: str, *, sampled: bool) -> str:
    """The header's text. ``trace_id`` and ``span_id``: 32 and 16 hex digits."""
    return f"00-{trace_id}-{span_id}-0{int(sampled)}"


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace's id, 32 hex digits, of a valid header."""
    return None if traceparent is None else traceparent[3:35]


def common_trace(given: Iterable[str | None]) -> tuple[str | None, list[str]]:
    """Where work is noted that belongs to several traces: one that is recorded, if there is one, and the others."""
    every = sorted(dict.fromkeys(one for one in given if one is not None), key=is_sampled, reverse=True)
    return (every[0], every[1:]) if every else (None, [])


def is_sampled(traceparent: str) -> bool:
    """Whether spans of this trace are recorded, by a valid header."""
    return traceparent.endswith("1")
