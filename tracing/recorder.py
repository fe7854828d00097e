"""OpenTelemetry's SDK, set up so that nothing but our settings decides what is sent where.

No variable ``OTEL_...`` has an effect but ``OTEL_SDK_DISABLED``, which can only switch tracing off: limits, sampler,
resource and queue are given here, and no exporter or propagator of the SDK's own is made.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from tracing.allowed import Value, allowed_attributes, allowed_name
from tracing.spans import Kind, Send
from tracing.statement_spans import follow_statements
from tracing.traceparent import is_sampled, written

log = structlog.get_logger(__name__)

QUEUE = 2048
"""Spans that may wait for the collector. What is more is dropped: a call never waits for its trace."""

BATCH = 512
EVERY_MS = 2000

END_WITHIN_S = 1.0
"""For how long the end of a process begins further requests, each of which has a limit of its own. If the collector
took nothing lately, none is begun."""

_LIMITS = SpanLimits(
    max_attributes=32,
    max_events=1,
    max_links=128,
    max_span_attributes=32,
    max_event_attributes=1,
    max_link_attributes=1,
    max_attribute_length=200,
    max_span_attribute_length=200,
)

_SCOPE = InstrumentationScope("panel-sync")


class _Exporter(SpanExporter):
    """The one way out: it makes each span anew of what is allowed, and sends them. It never raises and never waits
    longer than one request."""

    def __init__(self, service: str, send: Send) -> None:
        self._resource = Resource({"service.name": f"panel-sync-{service}", "service.version": version("panel-sync")})
        self._send = send
        self._until = math.inf
        self._failing = False
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch. A collector that takes none is logged once, and once more when it takes them again."""
        if time.monotonic() >= self._until:
            return SpanExportResult.FAILURE
        try:
            problem = self._send(encode_spans([self._allowed(one) for one in spans]).SerializeToString())
        except Exception as error:  # noqa: BLE001 - no fault of a trace may become one of the panel
            problem = type(error).__name__
        if problem is not None:
            self._lost += len(spans)
            if not self._failing:
                log.warning("traces_not_taken", problem=problem)
        elif self._failing:
            log.info("traces_taken_again", spans_lost=self._lost)
            self._lost = 0
        self._failing = problem is not None
        return SpanExportResult.SUCCESS if problem is None else SpanExportResult.FAILURE

    def end(self) -> None:
        """Begin no request after END_WITHIN_S. The SDK itself would send on for half a minute."""
        self._until = 0.0 if self._failing else time.monotonic() + END_WITHIN_S

    def shutdown(self) -> None:
        """Nothing is open between two requests."""

    def _allowed(self, span: ReadableSpan) -> ReadableSpan:
        """Events are left out: they hold messages and tracebacks of exceptions. So is the description of a status."""
        return ReadableSpan(
            allowed_name(span.name),
            context=span.context,
            parent=span.parent,
            resource=self._resource,
            attributes=allowed_attributes(span.attributes),
            links=[trace.Link(link.context) for link in span.links],
            kind=span.kind,
            status=trace.Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=_SCOPE,
        )


class Recorder:
    """Notes the spans of this process and has them sent."""

    def __init__(self, service: str, send: Send) -> None:
        # The SDK would log each dropped span and each of its own retries; the exporter says what an operator needs.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _Exporter(service, send)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=QUEUE,
            schedule_delay_millis=EVERY_MS,
            max_export_batch_size=BATCH,
            export_timeout_millis=EVERY_MS,
        )
        provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON),  # a caller that does not record its trace is not recorded here either
            resource=Resource({}),
            shutdown_on_exit=False,
            span_limits=_LIMITS,
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer(_SCOPE.name)
        self._leave_statements = follow_statements(self._tracer)

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind,
        continues: str | None,
        links: Iterable[str],
        attributes: Mapping[str, Value | None],
    ) -> Iterator[_Recorded]:
        """As :func:`tracing.spans.span`."""
        started = self._tracer.start_span(
            name,
            context=None if continues is None else trace.set_span_in_context(_remote(continues), Context()),
            kind=trace.SpanKind[kind.name],
            attributes={key: value for key, value in attributes.items() if value is not None},
            links=[trace.Link(_remote(link).get_span_context()) for link in links],
        )
        recorded = _Recorded(started)
        with trace.use_span(started, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield recorded
            except BaseException as error:
                recorded.failed(type(error).__name__)
                raise

    @staticmethod
    def is_inside() -> bool:
        """Whether a span is under way here that is recorded."""
        return trace.get_current_span().is_recording()

    def end(self) -> None:
        """Send what waits, as far as the collector takes it at once."""
        self._leave_statements()
        self._exporter.end()
        self._processor.shutdown()


class _Recorded:
    """One span of the SDK."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        context = self._span.get_span_context()
        if not context.is_valid:
            return None
        return written(
            trace.format_trace_id(context.trace_id),
            trace.format_span_id(context.span_id),
            sampled=context.trace_flags.sampled,
        )

    def note(self, attributes: Mapping[str, Value | None]) -> None:
        """Add those that have a value."""
        self._span.set_attributes({key: value for key, value in attributes.items() if value is not None})

    def rename(self, name: str) -> None:
        """As the SDK."""
        self._span.update_name(name)

    def failed(self, why: str) -> None:
        """Note the status, without any words."""
        self._span.set_status(trace.StatusCode.ERROR)
        self._span.set_attribute("error.type", why)


def _remote(traceparent: str) -> trace.Span:
    """The span of another process that a valid header names."""
    _, trace_id, span_id, _ = traceparent.split("-")
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if is_sampled(traceparent) else trace.TraceFlags.DEFAULT)
    context = trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags)
    return trace.NonRecordingSpan(context)
