"""Which texts are a ``traceparent``, and what is kept of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracing.traceparent import LENGTH, common_trace, is_sampled, trace_id_of, valid_traceparent, written

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RIGHT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "kept", "reason"),
    [
        (RIGHT, RIGHT, "as the standard writes it"),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00", "the caller does not record its trace"),
        (f"00-{TRACE}-{SPAN}-03", RIGHT, "of the flags only 'sampled' is known for sure"),
        (f"00-{TRACE}-{SPAN}-fe", f"00-{TRACE}-{SPAN}-00", "other flags are not passed on"),
        (f"01-{TRACE}-{SPAN}-01", RIGHT, "a later version begins in the same way"),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", RIGHT, "and may be longer"),
        (f"00-{TRACE}-{SPAN}-01-more", None, "version 00 is not longer"),
        (f"cc-{TRACE}-{SPAN}-01more", None, "not even a later version goes on without a dash"),
        (f"cc-{TRACE}-{SPAN}-01-{'x' * 300}", None, "too long to be read"),
        (f"ff-{TRACE}-{SPAN}-01", None, "this version is forbidden"),
        (f"00-{'0' * 32}-{SPAN}-01", None, "no trace has this id"),
        (f"00-{TRACE}-{'0' * 16}-01", None, "no span has this id"),
        (f"00-{TRACE.upper()}-{SPAN}-01", None, "capitals are not allowed"),
        (f"00-{TRACE[:-1]}-{SPAN}-01", None, "the trace's id is too short"),
        (f" {RIGHT}", None, "a blank is not part of it"),
        (f"{RIGHT}\n", None, "nor is a line break"),
        (f"00-{TRACE}-{SPAN}-0१", None, "digits of other scripts are none"),
        ("", None, "empty"),
    ],
)
def test_headers(header: str, kept: str | None, reason: str) -> None:
    assert valid_traceparent([header]) == kept, reason
    assert trace_id_of(kept) == (TRACE if kept else None)


def test_one_header_or_none() -> None:
    assert valid_traceparent([]) is None
    assert valid_traceparent([RIGHT, RIGHT]) is None, "nobody can tell which one counts"


@given(st.text(st.sampled_from("0123456789abcdef-fgF\n 0"), max_size=80) | st.text())
@example(RIGHT)
def test_what_is_kept_is_always_a_header(text: str) -> None:
    kept = valid_traceparent([text])
    if kept is not None:
        assert len(kept) == LENGTH
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", kept)
        assert valid_traceparent([kept]) == kept


HEX = st.integers(1, 2**64 - 1)


@given(HEX, HEX, st.booleans())
def test_what_is_written_is_read(trace: int, span: int, sampled: bool) -> None:
    header = written(f"{trace:032x}", f"{span:016x}", sampled=sampled)
    assert valid_traceparent([header]) == header
    assert is_sampled(header) == sampled


def test_a_common_trace_is_one_that_is_recorded() -> None:
    other = f"00-{TRACE[::-1]}-{SPAN}-00"
    assert common_trace([None]) == (None, [])
    assert common_trace([None, RIGHT, RIGHT]) == (RIGHT, [])
    assert common_trace([other, RIGHT]) == (RIGHT, [other])
    assert common_trace([other, None]) == (other, [])
