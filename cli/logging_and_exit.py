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

BREAK = "\n"  # some sentences end with the last lines of a log


def begin() -> None:
    """Log on stderr, without secrets: stdout is for results."""
    configure_logging("console", secrets=_secrets())


def told(error: Exception) -> int:
    """Report what ended the command, and return its exit code. What the operator can repair is one sentence, and 2."""
    if isinstance(error, CommandError | OperatorError | SettingsError | RuntimeFaultError):
        # A sentence may quote the name of a cluster or what a server said.
        sys.stderr.write(f"panel-sync: {printable(str(error), keep=BREAK)}\n")
        return 2
    if caused_by(error, KeyboardInterrupt):  # Ctrl-C met a library in its midst: what it raised in turn says nothing
        return 130
    begin()  # the command may have sent its log elsewhere
    log.error("command_failed", exc_info=error)
    return 1


def _secrets() -> frozenset[str]:
    """What no log line may hold. A command without settings has no secrets, and reports itself what is wrong."""
    try:
        return secrets_of(command_settings())
    except (CommandError, SettingsError):
        return frozenset()
