"""``panel-sync``: the panel from the command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog
import typer

from cli import (
    audit,
    chaos,
    demo,
    doctor,
    held,
    journal,
    migrating,
    operators,
    parts,
    reconcile,
    runs,
    sources,
    tokens,
    users,
    whole,
)
from cli.environment import command_settings
from cli.errors import CommandError
from panel.logging import configure_logging
from panel.printable import printable
from panel.redaction import secrets_of
from panel.settings import SettingsError
from panel.terminal import encodable
from runtime.errors import RuntimeFaultError

log = structlog.get_logger(__name__)

app = typer.Typer(
    name="panel-sync",
    help="Keeps a hosting panel's VPS records true to the main site's orders and to Proxmox VE.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a local variable may be a secret
    context_settings={"help_option_names": ["-h", "--help"]},
)
vps = typer.Typer(help="One VPS.", no_args_is_help=True)

BREAK = "\n"  # some sentences end with the last lines of a log
THE_WHOLE, PARTS, LOOKING, CARE = "The whole panel", "Parts of it", "Looking", "Care"

app.command(rich_help_panel=THE_WHOLE)(whole.up)
app.command(rich_help_panel=THE_WHOLE)(whole.run)
app.command(rich_help_panel=THE_WHOLE)(demo.demo)
app.command(rich_help_panel=THE_WHOLE)(chaos.chaos)
for part in (parts.api, parts.worker, parts.beat, parts.flower, parts.relay):
    app.command(rich_help_panel=PARTS)(part)
app.command(rich_help_panel=LOOKING)(doctor.doctor)
app.command(rich_help_panel=LOOKING)(runs.runs)
app.command(rich_help_panel=LOOKING)(journal.operations)
app.command(rich_help_panel=LOOKING)(audit.audit)
vps.command()(journal.history)
vps.command()(operators.restore)
app.add_typer(vps, name="vps", rich_help_panel=LOOKING)
app.command(rich_help_panel=LOOKING)(reconcile.plan)
app.command(rich_help_panel=LOOKING)(sources.sources)
app.command(rich_help_panel=LOOKING)(held.held)
app.command(rich_help_panel=LOOKING)(operators.quarantined)
app.add_typer(operators.findings_app, name="findings", rich_help_panel=LOOKING)
app.command(rich_help_panel=CARE)(reconcile.reconcile)
for care in (
    held.approve,
    held.reject,
    sources.acknowledge,
    operators.pause,
    operators.resume,
    operators.release,
    journal.requeue,
    journal.discard,
):
    app.command(rich_help_panel=CARE)(care)
app.command(rich_help_panel=CARE)(migrating.migrate)
app.command(rich_help_panel=CARE)(tokens.token)
app.add_typer(users.app, name="users", rich_help_panel=CARE)


def main() -> None:
    """Run the command; what the operator can mend is one sentence on stderr and exit code 2."""
    encodable(sys.stdout, sys.stderr)
    configure_logging("console", secrets=_secrets())  # on stderr: stdout is for results
    try:
        with _files_of_ones_own(), _interrupts_kept():
            app()
    except (CommandError, SettingsError, RuntimeFaultError) as error:
        # A sentence may quote the name of a cluster or what a server said.
        sys.stderr.write(f"panel-sync: {printable(str(error), keep=BREAK)}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # Typer would have Python write it, past the log and what the log strikes out
        if _interrupted(error):
            sys.exit(130)
        configure_logging("console", secrets=_secrets())  # the command may have sent its log elsewhere
        log.exception("command_failed")
        sys.exit(1)


@contextmanager
def _files_of_ones_own() -> Iterator[None]:
    """Whatever a command or its processes write (schedules, Flower's state, a heartbeat) is for this user alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """An end of its own is no success if there was Ctrl-C: Python drops what a signal raises while a destructor or a
    callback runs, and the command would go on as if nothing had been said."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else it is ignored (nohup), or whoever called has a handler
        signal.signal(signal.SIGINT, hear)
    try:
        yield
    except SystemExit as end:
        if heard and not end.code:
            raise KeyboardInterrupt from end
        raise
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def _interrupted(error: BaseException) -> bool:
    """Whether it was Ctrl-C that a library met in its midst: what it raised in turn says nothing of its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _secrets() -> frozenset[str]:
    """What no line may hold; a command that has no settings has no secrets, and says itself what is wrong with them."""
    try:
        return secrets_of(command_settings())
    except (CommandError, SettingsError):
        return frozenset()


if __name__ == "__main__":
    main()
