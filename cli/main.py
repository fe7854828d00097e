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
          "Start the whole panel on this machine; bring along what is missing."),
    Later("demo", "cli.serving.demo:demo", THE_WHOLE,
          "Start everything on this machine and tell the story: faults on purpose, and how each one heals."),
    Later("chaos", "cli.serving.chaos:chaos", THE_WHOLE,
          "Break the real thing on purpose, and prove from the journal that nothing was lost, doubled or given away."),
    Later("api", "cli.serving.parts:api", PARTS,
          "Run the HTTP edge alone (uvicorn on HOST and PORT)."),
    Later("worker", "cli.serving.parts:worker", PARTS,
          "Run a Celery worker alone. A reconcile run is long: give it a worker of its own in production."),
    Later("beat", "cli.serving.parts:beat", PARTS,
          "Run the scheduler alone. Any number may be started: one works, the others stand by."),
    Later("flower", "cli.serving.parts:flower", PARTS,
          "Run Flower alone, behind FLOWER_USER and FLOWER_PASSWORD; only its /healthcheck answers without."),
    Later("relay", "cli.serving.relay:relay", PARTS,
          "Run a relay alone. The API runs one already; more may run side by side."),
    Later("doctor", "cli.health.doctor:doctor", LOOKING,
          "Look at every dependency and say what is wrong and how to mend it. Changes nothing."),
    Later("runs", "cli.operating.runs:runs", LOOKING,
          "List reconciliation runs: when, by whom, what was counted, which sources had problems."),
    Later("operations", "cli.operating.journal:operations", LOOKING,
          "List the journal: every accepted call and every repair. `--state dead` shows what needs a human."),
    Later("audit", "cli.operating.audit:audit", LOOKING,
          "Show who did what: operators' decisions, uses of credentials by the hour, refused sync calls."),
    Later("vps", "cli.operating.vps:app", LOOKING, "One VPS."),
    Later("plan", "cli.operating.reconcile:plan", LOOKING,
          "Read every source and show what a run would change, hold and report. Keeps nothing of what it saw."),
    Later("sources", "cli.operating.sources:list_all", LOOKING,
          "List the sources: when each was read last, which are not believed, since when, why, and what to do."),
    Later("held", "cli.operating.held:held", LOOKING,
          "List the sets of changes that wait for a decision, each item with its VPS and its customer."),
    Later("quarantined", "cli.operating.quarantine:quarantined", LOOKING,
          "List what runs failed at again and again: why, and when each is tried again."),
    Later("findings", "cli.operating.findings:app", LOOKING,
          "List what runs found and may not mend, the loudest first."),
    Later("reconcile", "cli.operating.reconcile:reconcile", CARE,
          "Compare and repair now. Without --apply this is `panel-sync plan`."),
    Later("approve", "cli.operating.held:approve", CARE,
          "Let held sets happen. Each item is still confirmed by itself before it is written."),
    Later("reject", "cli.operating.held:reject", CARE,
          "Refuse held sets: their items stay as they are and are not asked about again while they do not change."),
    Later("acknowledge", "cli.operating.sources:acknowledge", CARE,
          "Say that a source which lost much at once is right: from now on, what is missing counts as missing."),
    Later("pause", "cli.operating.pauses:pause", CARE,
          "Leave a cluster, the main site or everything alone: it is not read and its records keep their state."),
    Later("resume", "cli.operating.pauses:resume", CARE,
          "End a pause before its time."),
    Later("release", "cli.operating.quarantine:release", CARE,
          "End a quarantine before its time, as `panel-sync quarantined` names it; the next run tries at once."),
    Later("requeue", "cli.operating.journal:requeue", CARE,
          "Try a dead call once more, as if it had come now; refused where that would undo what came after it."),
    Later("discard", "cli.operating.journal:discard", CARE,
          "Leave a dead call undone: the record stays as it is."),
    Later("migrate", "cli.serving.migrating:migrate", CARE,
          "Bring the database to this version's tables, and make the roles and the application's login."),
    Later("token", "cli.operating.tokens:token", CARE,
          "Print a JWT that reads one client's own VPS (GET /api/vps). Whoever has it, is that client: keep it safe."),
    Later("users", "cli.operating.users:app", CARE,
          "The panel's users, and the map to the main site's user ids (a wrong map gives machines to strangers)."),
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"panel-sync {version('panel-sync')}")
        raise typer.Exit


def _begin(
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keeps a hosting panel's VPS records true to the main site's orders and to Proxmox VE."""
    from cli.logging_and_exit import begin  # noqa: PLC0415 - a command was chosen: only now

    begin()


def _tree() -> Commands:
    root = typer.Typer(
        name="panel-sync",
        cls=Commands,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Each command ends with 0 if it was done, with 1 if the answer is no (doctor: a problem), with 2, and "
        "why, if it could not be done, and with 130 after Ctrl-C.",
    )
    root.callback()(_begin)
    made = typer.main.get_command(root)
    assert isinstance(made, Commands)  # noqa: S101 - for the type checker
    made.commands = {str(one.name): one for one in COMMANDS}
    return made


app = _tree()


def main() -> None:
    """Run the command. What the operator can repair becomes one sentence on stderr and exit code 2."""
    encodable(sys.stdout, sys.stderr)
    try:
        with _files_of_ones_own(), _interrupts_kept():
            app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - Python would write it without the log's redaction
        from cli.logging_and_exit import told  # noqa: PLC0415 - needed only after a failure

        sys.exit(told(error))


@contextmanager
def _files_of_ones_own() -> Iterator[None]:
    """Files that a command or its processes write (schedules, Flower's state, a heartbeat) are for this user alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """After Ctrl-C the command never ends as a success. Python drops an exception that a signal raises inside a
    destructor or callback, and the command would go on as if nothing had happened."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # otherwise it is ignored (nohup), or the caller has a handler
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


if __name__ == "__main__":
    main()
