"""``panel-sync``: the panel from the command line. Each command is imported when it is chosen."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Annotated

import typer

from cli.lazy_commands import Commands, Later
from panel.printable import encodable

THE_WHOLE, PARTS, LOOKING, CARE = "The whole panel", "Parts of it", "Looking", "Care"

COMMANDS = (
    Later("up", "cli.serving.up_and_run:up", THE_WHOLE,
          "Start the whole panel against your own PostgreSQL and Redis (DATABASE_URL, REDIS_URL)."),
    Later("run", "cli.serving.up_and_run:run", THE_WHOLE,
          "Start the whole panel on this machine, with embedded servers and random keys where none are set."),
    Later("demo", "cli.serving.demo:demo", THE_WHOLE,
          "Start everything on this machine and play a story: faults on purpose, and how the panel repairs each one."),
    Later("chaos", "cli.serving.chaos:chaos", THE_WHOLE,
          "Break the real panel on purpose, and prove that no call was lost or doubled and no VPS given away."),
    Later("api", "cli.serving.parts:api", PARTS,
          "Run the HTTP edge alone (uvicorn on HOST and PORT)."),
    Later("worker", "cli.serving.parts:worker", PARTS,
          "Run a Celery worker alone. In production use one for each queue, because reconcile runs take long."),
    Later("beat", "cli.serving.parts:beat", PARTS,
          "Run the scheduler alone. You may start several: one of them works, the others stand by."),
    Later("flower", "cli.serving.parts:flower", PARTS,
          "Run Flower alone, protected by FLOWER_USER and FLOWER_PASSWORD. Only /healthcheck answers without them."),
    Later("relay", "cli.serving.relay:relay", PARTS,
          "Run a relay alone. The API runs one already; several relays may run at the same time."),
    Later("doctor", "cli.health.doctor:doctor", LOOKING,
          "Check every dependency, and say what is wrong and how to repair it. Changes nothing."),
    Later("overview", "cli.operating.reports.overview:overview", LOOKING,
          "Show whether the panel is in sync, what needs you first, findings by class, sources, and what is left "
          "alone."),
    Later("coverage", "cli.operating.reports.coverage:coverage", LOOKING,
          "Show what the last look at each source and node covers, and which records, orders and guests cannot be "
          "judged."),
    Later("drift", "cli.operating.reports.drift:drift", LOOKING,
          "List every record that differs from its order or its guest, as runs saw them last, with the facts that "
          "differ."),
    Later("money", "cli.operating.reports.money:app", LOOKING,
          "Machines that run unpaid, and orders that are paid and whose machine is missing."),
    Later("runs", "cli.operating.runs:runs", LOOKING,
          "List reconciliation runs: when, by whom, what was counted, which sources had problems."),
    Later("service-levels", "cli.operating.runs:levels", LOOKING,
          "Show by class of drift how long differences lasted, and the share that was mended within MEND_WITHIN_S."),
    Later("operations", "cli.operating.journal:operations", LOOKING,
          "List the journal: every accepted call and every repair. `--state dead` shows the calls that need you."),
    Later("audit", "cli.operating.audit:audit", LOOKING,
          "Show who did what: operators' decisions, uses of credentials by the hour, refused sync calls."),
    Later("vps", "cli.operating.vps:app", LOOKING, "One VPS."),
    Later("power", "cli.operating.vps:power", LOOKING,
          "List power actions of customers: those that are open, that failed, or of which nobody knows what came."),
    Later("webhooks", "cli.operating.webhooks.webhook_commands:app", LOOKING, "The events for the main site."),
    Later("plan", "cli.operating.reconcile:plan", LOOKING,
          "Read every source and show what a run would change, hold and report. Stores nothing of what it read."),
    Later("sources", "cli.operating.sources:list_all", LOOKING,
          "List the sources: when each was read last, which are not believed, since when, why, and what to do."),
    Later("deletes", "cli.operating.repair_policy.deletes:deletes", LOOKING,
          "Judge the deletes of the last days by the limits and REPAIR_POLICY of the settings, or by others."),
    Later("held", "cli.operating.held:held", LOOKING,
          "List the sets of changes that wait for a decision, each item with its VPS and its customer."),
    Later("pauses", "cli.operating.pauses:list_all", LOOKING,
          "List the pauses in force: what runs leave alone, by whom, why, and until when."),
    Later("quarantined", "cli.operating.quarantine:quarantined", LOOKING,
          "List the subjects at which runs keep failing: why, and when each is tried again."),
    Later("findings", "cli.operating.findings:app", LOOKING,
          "List what runs found and may not repair, the most severe first."),
    Later("adopt", "cli.operating.inbox.adopt:app", CARE,
          "List the guests that no order names, each with up to three orders that may be its own."),
    Later("reconcile", "cli.operating.reconcile:reconcile", CARE,
          "Compare and repair now. Without --apply this is `panel-sync plan`."),
    Later("approve", "cli.operating.held:approve", CARE,
          "Approve held sets. The next run confirms each item once more by itself, then writes it."),
    Later("reject", "cli.operating.held:reject", CARE,
          "Reject held sets. You are not asked about their items again for 30 days, unless an item changes."),
    Later("acknowledge", "cli.operating.sources:acknowledge", CARE,
          "Confirm that a source which lost many entries at once is right. From now on they count as missing."),
    Later("pause", "cli.operating.pauses:pause", CARE,
          "Leave a cluster, the main site or everything alone: it is not read and its records keep their state."),
    Later("resume", "cli.operating.pauses:resume", CARE,
          "End a pause before its time."),
    Later("release", "cli.operating.quarantine:release", CARE,
          "End a quarantine before its time. The next run tries the subject at once."),
    Later("requeue", "cli.operating.journal:requeue", CARE,
          "Queue a dead call again, as if it had come now. Refused if that would undo a later change."),
    Later("discard", "cli.operating.journal:discard", CARE,
          "Leave a dead call undone: the record stays as it is."),
    Later("migrate", "cli.serving.migrating:migrate", CARE,
          "Bring the database to this version's tables, and make the roles and the application's login."),
    Later("token", "cli.operating.tokens:token", CARE,
          "Print a JWT that reads one client's own VPS (GET /api/vps). Keep it safe: its holder acts as that client."),
    Later("users", "cli.operating.users:app", CARE,
          "The panel's users, and the map to the main site's user ids (a wrong map gives machines to strangers)."),
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"panel-sync {version('panel-sync')}")
        raise typer.Exit


def _begin(
    version: Annotated[  # noqa: ARG001 - its callback prints the version
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keeps a hosting panel's VPS records true to the main site's orders and to Proxmox VE."""
    from cli.logging_and_exit import begin  # noqa: PLC0415 - --help needs no logging

    begin()


def _tree() -> Commands:
    root = typer.Typer(
        name="panel-sync",
        cls=Commands,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Exit codes of all commands: 0 done; 1 the answer is no (doctor: there is a problem); 2 it could not be "
        "done, and the message says why; 130 after Ctrl-C.",
    )
    root.callback()(_begin)
    group = typer.main.get_command(root)
    assert isinstance(group, Commands)  # noqa: S101 - for the type checker
    group.commands = {str(command.name): command for command in COMMANDS}
    return group


app = _tree()


def main() -> None:
    """Run the command. An error that the operator can repair becomes one sentence on stderr and exit code 2."""
    encodable(sys.stdout, sys.stderr)
    try:
        with _private_files(), _interrupts_end_the_command():
            app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - Python would write it without the log's redaction
        from cli.logging_and_exit import report_failure  # noqa: PLC0415 - needed only after a failure

        sys.exit(report_failure(error))


@contextmanager
def _private_files() -> Iterator[None]:
    """Only this user can read what a command or its processes write (schedules, Flower's state, heartbeats)."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _interrupts_end_the_command() -> Iterator[None]:
    """After Ctrl-C the command never ends as a success. Python drops an exception that a signal handler raises inside a
    destructor or a callback; the command would go on and end with 0."""
    received: list[int] = []

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # otherwise it is ignored (nohup), or the caller has a handler
        signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    except SystemExit as end:
        if received and not end.code:
            raise KeyboardInterrupt from end
        raise
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    main()
