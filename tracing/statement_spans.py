"""A span for each statement that SQLAlchemy sends, inside of a span that is noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

from tracing.statement_names import statement_name

_UNDER_WAY = "panel-sync span"
"""The key in a connection's ``info``. A connection does one statement at a time."""


def follow_statements(tracer: trace.Tracer) -> Callable[[], None]:
    """Note the statements of all engines from now on. Returns what ends that."""

    def before(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        if not trace.get_current_span().is_recording():
            return
        name = statement_name(statement)
        attributes = {"db.system.name": "postgresql", "db.operation.name": name.operation}
        if name.table is not None:
            attributes["db.collection.name"] = name.table
        span = tracer.start_span(str(name), kind=trace.SpanKind.CLIENT, attributes=attributes)
        connection.info[_UNDER_WAY] = span

    def after(connection: Connection, *_: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        span = connection.info.pop(_UNDER_WAY, None)
        if span is not None:
            span.end()

    def failed(context: ExceptionContext) -> None:
        if context.connection is None or context.connection.closed:
            return
        span = context.connection.info.pop(_UNDER_WAY, None)
        if span is not None:
            error = context.original_exception
            span.set_status(trace.StatusCode.ERROR)
            span.set_attribute("error.type", getattr(error, "sqlstate", None) or type(error).__name__)
            span.end()

    listeners: tuple[tuple[str, Callable[..., None]], ...] = (
        ("before_cursor_execute", before),
        ("after_cursor_execute", after),
        ("handle_error", failed),
    )
    for name, listener in listeners:
        event.listen(Engine, name, listener)

    def leave() -> None:
        for name, listener in listeners:
            event.remove(Engine, name, listener)

    return leave
