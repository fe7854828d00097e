"""An OTLP/HTTP collector that keeps what it was sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True, slots=True)
class SentSpan:
    """One span as it arrived. Ids are hex digits. ``words``: every text in it that is no attribute."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str | int]
    links: list[str]
    failed: bool
    words: list[str]


def spans_in(body: bytes) -> list[SentSpan]:
    """The spans of one request."""
    return [
        SentSpan(
            service=str(_plain(list(resource.resource.attributes))["service.name"]),
            name=span.name,
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            attributes=_plain(list(span.attributes)),
            links=[link.trace_id.hex() for link in span.links],
            failed=span.status.code == 2,
            words=[
                text for text in (span.trace_state, span.status.message, *(str(event) for event in span.events)) if text
            ],
        )
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _plain(pairs: list[KeyValue]) -> dict[str, str | int]:
    return {
        pair.key: pair.value.int_value if pair.value.HasField("int_value") else pair.value.string_value
        for pair in pairs
    }


@dataclass(slots=True)
class Received:
    """What arrived: the bytes of each request, with its path and headers."""

    bodies: list[bytes] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    _spans: list[SentSpan] = field(default_factory=list)
    _read: int = 0

    @property
    def spans(self) -> list[SentSpan]:
        """So far. Each body is read once: who looks again and again must not keep the collector from answering. For
        the test's own thread only."""
        for body in self.bodies[self._read :]:
            self._spans += spans_in(body)
            self._read += 1
        return list(self._spans)

    def trace(self, trace_id: str) -> list[SentSpan]:
        return [span for span in self.spans if span.trace == trace_id]


class TraceCollector(ThreadingHTTPServer):
    """``received``: so far."""

    request_queue_size = 128  # every process of a panel may come at once
    received: Received

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class _Collect(BaseHTTPRequestHandler):
    server: TraceCollector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.heads.append(f"{self.path}\n{self.headers}")
        self.server.received.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def trace_collector() -> Iterator[TraceCollector]:
    """Serve until the block ends. What was received is kept."""
    with TraceCollector(("127.0.0.1", 0), _Collect) as server:
        server.received = Received()
        thread = threading.Thread(target=server.serve_forever, name="trace-collector")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
