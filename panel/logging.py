"""Structured logs: constant event names with keys and values; the operation or run id is bound by the caller.

Code never logs a secret. Two lines of defence stand behind that: values under secret names are dropped, and the
process's own secrets are struck out of whatever is written, tracebacks of libraries included.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TextIO

import structlog

from panel.printable import printable
from panel.redaction import REDACTED, Redactor

SECRET_NAMES = frozenset({"api_key", "authorization", "cookie", "password", "secret", "token", "x_api_key"})
SECRET_ENDINGS = ("_password", "_secret", "_token", "_api_key")


MULTILINE = frozenset({"exception", "stack"})


def _redact(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """No value of these names is ever written."""
    return {k: REDACTED if _secret_name(k.lower()) else v for k, v in event.items()}


def _secret_name(name: str) -> bool:
    return name in SECRET_NAMES or name.endswith(SECRET_ENDINGS)


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """The last step before the stream: whatever the line was made from, it leaves without the process's secrets."""

    redactor = Redactor(())

    def format(self, record: logging.LogRecord) -> str:
        return self.redactor(super().format(record))


def _visible(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """For the console: no value starts a line or a colour of its own. Tracebacks keep their lines. JSON escapes."""
    return {
        key: printable(value, keep="\n" if key in MULTILINE else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def configure_logging(log_format: str = "json", stream: TextIO | None = None, *, secrets: Iterable[str] = ()) -> None:
    """Send structlog's and the standard library's records to ``stream`` (stderr) in one format.

    ``secrets``: what no line may hold (``panel.redaction.secrets_of``), even if a library puts it there.
    """
    stream = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    rendering: list[structlog.typing.Processor] = (
        [structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [_visible, structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    formatter = _RedactingFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    formatter.redactor = Redactor(secrets)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("httpx", "httpcore", "celery.beat", "celery.worker.strategy", "kombu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
