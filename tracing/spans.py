"""How the panel notes spans. While tracing is off, this costs a comparison and imports nothing.

A span that begins with :func:`span` continues the trace that it is told, or the span around it, or begins a trace.
One that begins with :func:`inner_span` is noted only inside of another: the relay's looks into the journal, for
example, would else be a trace each second.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from tracing.allowed import Value

if TYPE_CHECKING:
    from tracing.recorder import Recorder


class Kind(Enum):
    """Which side of a conversation the span is."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Protocol):
    """A span under way. ``traceparent``: the header by which another process continues it; None if there is none."""

    @property
    def traceparent(self) -> str | None: ...

    def note(self, attributes: Mapping[str, Value | None]) -> None:
        """Add attributes; those that are None are left out. Only those of ``tracing.allowed`` are exported."""

    def rename(self, name: str) -> None:
        """Give it another name than at its beginning."""

    def failed(self, why: str) -> None:
        """It failed. ``why``: a class, status or code; never a sentence."""


class _Nothing:
    traceparent = None

    def note(self, attributes: Mapping[str, Value | None]) -> None: ...

    def rename(self, name: str) -> None: ...

    def failed(self, why: str) -> None: ...


_NOT_NOTED: AbstractContextManager[Span] = nullcontext(_Nothing())

Send = Callable[[bytes], str | None]
"""Sends spans as OTLP to a collector. Returns why it did not take them, or None."""


class _Switch:
    """Whether this process notes spans."""

    recorder: Recorder | None = None


def switch_on(service: str, send: Send) -> None:
    """Note spans from now on and send them from a thread of their own. Call it after fork. ``service``: the part's
    name."""
    from tracing.recorder import Recorder  # noqa: PLC0415 - the SDK costs time and memory

    switch_off()
    _Switch.recorder = Recorder(service, send)
    atexit.register(switch_off)


def switch_off() -> None:
    """Send what is left, within a moment, and note nothing more. Twice does no harm."""
    recorder, _Switch.recorder = _Switch.recorder, None
    if recorder is not None:
        atexit.unregister(switch_off)
        recorder.end()


def span(
    name: str,
    kind: Kind = Kind.INTERNAL,
    *,
    continues: str | None = None,
    links: Iterable[str] = (),
    attributes: Mapping[str, Value | None] | None = None,
) -> AbstractContextManager[Span]:
    """A span for the length of the block. ``continues`` and ``links``: valid ``traceparent`` headers of the span that
    it is a part of, and of others that led to it.

    An exception that leaves the block is noted by its class, and goes on.
    """
    recorder = _Switch.recorder
    if recorder is None:
        return _NOT_NOTED
    return recorder.span(name, kind, continues, links, attributes or {})


def inner_span(
    name: str, kind: Kind = Kind.INTERNAL, attributes: Mapping[str, Value | None] | None = None
) -> AbstractContextManager[Span]:
    """The same inside of a span that is noted; elsewhere nothing is."""
    recorder = _Switch.recorder
    if recorder is None or not recorder.is_inside():
        return _NOT_NOTED
    return recorder.span(name, kind, None, (), attributes or {})


class Laps:
    """Spans one after the other, each named when it ends. ``close`` ends the last one."""

    def __init__(self) -> None:
        self._lap = ExitStack()
        self._begin()

    def end(self, name: str) -> None:
        """End a span and begin the next."""
        self._span.rename(name)
        self._lap.close()
        self._begin()

    def close(self) -> None:
        """End the last span, which is what came after all that have a name."""
        self._lap.close()

    def _begin(self) -> None:
        self._span = self._lap.enter_context(inner_span("rest"))
