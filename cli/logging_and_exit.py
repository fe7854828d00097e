"""How commands start logging, and how they end on an error. Help needs neither, so it does not import this."""

from __future__ import annotations

import sys

import structlog

from cli.environment import command_settings
from cli.errors import CommandError
from domain.failures import caused_by
from panel.logging import configure_logging
from panel.operator_error import OperatorError
from panel.printable import printable
from panel.redaction import secrets_of
from panel.settings import SettingsError
from runtime.errors import RuntimeFaultError

log = structlog.get_logger(__name__)

BREAK = "\n"  # kept in messages, because some end with the last lines of a log


def begin() -> None:
    """Log on stderr, without secrets: stdout is for results."""
    configure_logging("console", secrets=_secrets())


def report_failure(error: Exception) -> int:
    """Report the error that ended the command, and return the exit code. An error that the operator can repair is one
    sentence and exit code 2; a bug is logged with its traceback and has exit code 1."""
    if isinstance(error, CommandError | OperatorError | SettingsError | RuntimeFaultError):
        # The sentence may quote a cluster's name or a server's message, so control characters are removed.
        sys.stderr.write(f"panel-sync: {printable(str(error), keep=BREAK)}\n")
        return 2
    if caused_by(error, KeyboardInterrupt):  # Ctrl-C inside a library: the error that it raised in turn is no bug
        return 130
    begin()  # the command may have sent its log elsewhere
    log.error("command_failed", exc_info=error)
    return 1


def _secrets() -> frozenset[str]:
    """The values that no log line may hold; none if the settings are wrong. The command itself reports that."""
    try:
        return secrets_of(command_settings())
    except (CommandError, SettingsError):
        return frozenset()
