"""Structured logs: constant event names with keys and values. The caller binds the operation id or run id.

Code must not log a secret. If it does so by mistake, two defences are left: values under secret names are replaced, and
the process's own secrets are removed from every line, also from tracebacks of libraries and of uncaught errors. No
traceback shows local variables.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from functools import lru_cache
from types import TracebackType
from typing import TextIO

import structlog

from panel.printable import encodable, printable
from panel.redaction import REDACTED, Redactor

SECRET_NAMES = frozenset({"api_key", "authorization", "cookie", "password", "secret", "token", "x_api_key"})
SECRET_ENDINGS = ("_password", "_secret", "_token", "_api_key")


uncaught = logging.getLogger("uncaught")

MULTILINE = frozenset({"exception", "stack"})


def _redact(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace values under secret names."""
    return {k: REDACTED if _is_secret(k) else v for k, v in event.items()}


@lru_cache(maxsize=1024)  # names come from the code
def _is_secret(name: str) -> bool:
    name = name.lower()
    return name in SECRET_NAMES or name.endswith(SECRET_ENDINGS)


class _Lines:
    """Writes structlog's finished lines where the standard library's handler writes its own. A record for each, which
    that handler would ask for, costs as much as the line itself."""

    def __init__(self, name: str, handler: logging.StreamHandler[TextIO], redactor: Redactor) -> None:
        self.name = name
        self._logger = logging.getLogger(name)  # has the level
        self._handler = handler
        self._redactor = redactor

    def debug(self, line: str) -> None:
        self._write(logging.DEBUG, line)

    def info(self, line: str) -> None:
        self._write(logging.INFO, line)

    def warning(self, line: str) -> None:
        self._write(logging.WARNING, line)

    def error(self, line: str) -> None:
        self._write(logging.ERROR, line)

    def exception(self, line: str) -> None:
        self._write(logging.ERROR, line)

    def critical(self, line: str) -> None:
        self._write(logging.CRITICAL, line)

    def _write(self, level: int, line: str) -> None:
        if not self._logger.isEnabledFor(level):
            return
        self._handler.acquire()
        try:
            self._handler.stream.write(self._redactor(line) + "\n")
            self._handler.stream.flush()
        except (OSError, ValueError):  # a full disk, a closed stream: no work may end because of its log
            self._handler.handleError(self._logger.makeRecord(self.name, level, "", 0, "line_lost", (), None))
        finally:
            self._handler.release()


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """The last step before the stream: it removes the process's secrets from the finished line."""

    redactor = Redactor(())

    def format(self, record: logging.LogRecord) -> str:
        return self.redactor(super().format(record))


def _visible(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """For the console: escape what would begin a new line or a colour. Tracebacks keep their lines. JSON needs none of
    this, because it escapes by itself."""
    return {
        key: printable(value, keep="\n" if key in MULTILINE else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def configure_logging(log_format: str = "json", stream: TextIO | None = None, *, secrets: Iterable[str] = ()) -> None:
    """Send structlog's and the standard library's records to ``stream`` (stderr) in one format.

    ``secrets``: texts that are removed from every line (``panel.redaction.secrets_of``), also from lines of libraries.
    From now on uncaught errors of any thread are logged in the same way.
    """
    stream = stream or sys.stderr
    encodable(stream)
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
        [structlog.processors.JSONRenderer()] if log_format == "json" else [_visible, _console(colors=stream.isatty())]
    )
    handler, redactor = logging.StreamHandler(stream), Redactor(secrets)
    structlog.configure(
        processors=[*shared, *rendering],
        logger_factory=lambda name="structlog": _Lines(name, handler, redactor),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Loggers are not cached, which costs 3 us a line: a cached one would ignore a later configuration.
        cache_logger_on_first_use=False,
    )
    formatter = _RedactingFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    formatter.redactor = redactor
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("alembic", "httpx", "httpcore", "celery.beat", "celery.worker.strategy", "kombu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _console(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    """Plain tracebacks, because the renderer's default shows every local variable, with keys and passwords."""
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        uncaught.warning("interrupted")
    else:
        uncaught.critical("uncaught_exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:  # the ordinary end of a thread
        return
    error = args.exc_value or args.exc_type()
    uncaught.critical("uncaught_exception_in_thread", exc_info=(args.exc_type, error, args.exc_traceback))
