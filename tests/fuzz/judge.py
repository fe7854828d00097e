"""Whether the answers to a stream are those that its requests may get."""

from __future__ import annotations

from collections.abc import Sequence

from tests.fuzz.model import Message, messages
from tests.fuzz.others import disagreement
from tests.fuzz.streams import Stream
from tests.fuzz.wire import Server

Asked = tuple[str, bytes, bytes | None]
REFUSALS = {400, 431}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def wrong_with(server: Server, stream: Stream) -> str | None:
    """What is wrong with the server's answers to this stream, in one sentence; None if nothing is."""
    try:
        written, asked = await server.answers_to(stream.reads())
    except AssertionError as error:
        return str(error)
    return wrong_with_answers(stream.raw, written, asked)


def wrong_with_answers(raw: bytes, written: bytes, asked: Sequence[Asked]) -> str | None:
    """The same, of answers that are there."""
    found, verdict = messages(raw)
    for message in found:
        if message.verdict == "complete" and (other := disagreement(raw, message)):
            return other
    expected = [_asked(message) for message in found if _is_answered(message)]
    if list(asked) != expected:
        return f"asked was {asked!r} where the stream asks {expected!r}"
    rest = written
    for message in filter(_is_answered, found):  # all but the last one, perhaps
        status, body, rest = _next(rest, message.method)
        if (status, body) != (200, b"" if message.method == "HEAD" else message.answer):
            return f"{message!r} is answered {status} {body!r}"
    rest = rest.removeprefix(CONTINUE)  # to a body that never came whole
    if not rest:
        return f"what is bad has no answer: {raw!r}" if _must_be_refused(found, verdict) else None
    unanswered = [message.method for message in found if not _is_answered(message)]
    status, _, rest = _next(rest, unanswered[0] if unanswered else "GET")
    if rest or status not in REFUSALS or not _may_be_refused(found, verdict):
        return f"one answer too many: {status}, then {rest!r}"
    return None


def _asked(message: Message) -> Asked:
    return message.method, message.path, None if message.blind else message.body


def _is_answered(message: Message) -> bool:
    return message.blind or message.verdict == "complete"


def _may_be_refused(found: Sequence[Message], verdict: str) -> bool:
    """Bad bytes have one refusal, unless they belong to a request that has its answer; so may a beginning of which
    it shows already that it cannot be continued."""
    answered = bool(found) and found[-1].verdict != "complete" and found[-1].blind
    return verdict != "complete" and not answered


def _must_be_refused(found: Sequence[Message], verdict: str) -> bool:
    return verdict == "bad" and _may_be_refused(found, verdict)


def _next(written: bytes, method: str) -> tuple[int, bytes, bytes]:
    """Status and body of the next final answer, and what is behind it."""
    head, _, rest = written.removeprefix(CONTINUE).partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    status = int(lines[0].split()[1]) if lines[0].startswith(b"http/1.1 ") else 0
    lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
    length = 0 if method == "HEAD" else sum(lengths)
    return status, rest[:length], rest[length:]


async def shortest_failing(server: Server, stream: Stream) -> Stream:
    """A part of the stream that fails, of which nothing more can be left out; read at once, if that fails, too."""
    if await wrong_with(server, Stream(stream.raw, ())) is not None:
        stream = Stream(stream.raw, ())
    each = stream.cuts == tuple(range(1, len(stream.raw))) and bool(stream.cuts)
    if stream.cuts and not each:
        return stream
    size = max(1, len(stream.raw) // 2)
    while size:
        at = 0
        while at < len(stream.raw):
            raw = stream.raw[:at] + stream.raw[at + size :]
            less = Stream(raw, tuple(range(1, len(raw))) if each else ())
            if raw and await wrong_with(server, less) is not None:
                stream = less
            else:
                at += size
        size //= 2
    return stream
