"""What operators decide: pauses, findings, restores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer
from sqlalchemy import Connection

from cli.connect import opened_panel
from cli.environment import command_settings
from cli.errors import CommandError
from cli.operating.acting import note, operator
from cli.operating.tokens import duration
from cli.output.console import as_json, moment, out, span
from cli.output.listing import Json, OfCluster, OfUser, Page
from panel.journal.restore import restore_vps
from panel.operator_error import OperatorError
from panel.operators.findings import (
    FindingCount,
    FindingFilter,
    FindingRow,
    acknowledge_finding,
    count_findings,
    finding_as_json,
    heed_finding,
    ignore_finding,
    list_findings,
    snooze_finding,
)
from panel.operators.pauses import pause as pause_source
from panel.operators.pauses import resume as resume_source
from panel.operators.pauses import target_of
from panel.operators.quarantine import list_quarantined
from panel.operators.quarantine import release as release_subject
from panel.settings import Settings
from panel.terminal import table

findings_app = typer.Typer(invoke_without_command=True)

Target = Annotated[str, typer.Argument(metavar="CLUSTER|feed|all|vps:ID|user:ID")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept and shown.")]
Length = Annotated[
    timedelta,
    typer.Option("--for", parser=duration, metavar="DURATION", help="For how long: 15m, 2h, 3d; at most 30d."),
]
FindingId = Annotated[int, typer.Argument(metavar="ID", min=1)]


def pause(
    target: Target,
    reason: Reason,
    length: Length,
) -> None:
    """Leave a cluster, the main site or everything alone: it is not read and its records keep their state.

    A single VPS, or a customer's, are read and reported, and no run writes them. Sync calls are accepted and applied
    as ever. The pause ends by itself.

    Examples: panel-sync pause fra1 --reason "storage upgrade" --for 2h; panel-sync pause vps:17 --reason move --for 30m

    Ends with 0; with 2 if there is nothing of that name.
    """
    with _panel() as (connection, settings):
        made = pause_source(connection, _target(target, settings), reason, length, operator())
        note(connection, "pause", made.target)
    out.print(f"{made.target} is {made}")


def resume(target: Target) -> None:
    """End a pause before its time.

    Example: panel-sync resume fra1

    Ends with 0; with 2 if it was not paused.
    """
    with _panel() as (connection, settings):
        resume_source(connection, _target(target, settings))
        note(connection, "resume", target)
    out.print(f"{target} is resumed")


def quarantined(json: Json = False) -> None:
    """List what runs failed at again and again: why, and when each is tried again.

    Example: panel-sync quarantined --json

    Ends with 0, whether there is anything or not.
    """
    with _panel() as (connection, _):
        found = list_quarantined(connection)
    if json:
        as_json([asdict(one) for one in found])
        return
    shown = table("subject", "failed", "at", "cause", "not before (UTC)")
    for one in found:
        shown.add_row(one.subject, f"{one.failures} times", one.stage, one.cause, moment(one.next_try_at))
    out.print(shown)


def release(subject: Annotated[str, typer.Argument(metavar="SUBJECT|all")]) -> None:
    """End a quarantine before its time, as `panel-sync quarantined` names it; the next run tries at once.

    Examples: panel-sync release vps:17; panel-sync release all

    Ends with 0; with 2 if nothing of that name is quarantined.
    """
    with _panel() as (connection, _):
        released = release_subject(connection, subject)
        note(connection, "release", subject)
    out.print(f"released: {', '.join(released)}")


def restore(
    vps: Annotated[int, typer.Argument(metavar="ID", min=1, help="The VPS's id in the panel.")], reason: Reason
) -> None:
    """Bring a deleted record back, within 7 days; for the next 7 days reconciliation will not delete it again.

    Example: panel-sync vps restore 17 --reason "the customer paid after all"

    Ends with 0; with 2, and why, if it cannot be brought back.
    """
    with _panel() as (connection, _):
        row = restore_vps(connection, vps, reason, operator())
        note(connection, "vps restore", f"vps:{vps}")
    out.print(f"VPS {vps} is {row['status']} again, protected until {moment(row['protected_until'])} UTC")


@findings_app.callback()
def findings(
    context: typer.Context,
    class_: Annotated[str | None, typer.Option("--class", help="Only this class: paid-but-missing, ...")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Snoozed, ignored and resolved ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Findings a page.")] = 200,
    cluster: OfCluster = None,
    user: OfUser = None,
    page: Page = 1,
    summary: Annotated[bool, typer.Option("--summary", help="How many of each class, and for how long.")] = False,
    json: Json = False,
) -> None:
    """List what runs found and may not mend, the loudest first.

    Examples: panel-sync findings --summary; panel-sync findings --class owner-unknown --page 2;
    panel-sync findings --cluster fra1 --json

    Ends with 0, whether there are findings or not.
    """
    if context.invoked_subcommand is not None:
        return
    with _panel() as (connection, _):
        if summary:
            _show_counts(count_findings(connection), json=json)
            return
        wanted = FindingFilter(class_, cluster, user)
        first = (page - 1) * limit
        found = list_findings(connection, wanted, everything=everything, limit=limit + 1, offset=first)
    more, found = len(found) > limit, found[:limit]
    if json:
        as_json([finding_as_json(one) for one in found])
        return
    shown = table("id", "severity", "class", "subject", "since (UTC)", "", "why")
    for one in found:
        shown.add_row(
            str(one.id),
            one.severity,
            one.class_,
            one.subject,
            moment(one.first_seen_at),
            _state(one),
            one.reason,
        )
    out.print(shown)
    if more:
        out.print(f"There are more: --page {page + 1}; how many of each class: panel-sync findings --summary")


def _show_counts(counts: Sequence[FindingCount], *, json: bool) -> None:
    if json:
        as_json([finding_as_json(one) for one in counts])
        return
    shown = table("class", "severity", "open", "the oldest stands for")
    for one in counts:
        shown.add_row(one.class_, one.severity, str(one.open), span(one.oldest_s))
    out.print(shown)


@findings_app.command("ack")
def ack(finding: FindingId) -> None:
    """Note that you have seen it.

    Example: panel-sync findings ack 12

    Ends with 0; with 2 if there is no such finding.
    """
    with _panel() as (connection, _):
        found = acknowledge_finding(connection, finding, operator())
        note(connection, "findings ack", f"finding:{finding}")
    out.print(f"{found.class_} {found.subject} is acknowledged")


@findings_app.command("snooze")
def snooze(finding: FindingId, length: Length) -> None:
    """Leave it out of the list and of alarms for a while.

    Example: panel-sync findings snooze 12 --for 2d

    Ends with 0; with 2 if there is no such finding.
    """
    with _panel() as (connection, _):
        found = snooze_finding(connection, finding, length, operator())
        note(connection, "findings snooze", f"finding:{finding}")
    out.print(f"{found.class_} {found.subject} is snoozed until {moment(found.snoozed_until)} UTC")


@findings_app.command("ignore")
def ignore(finding: FindingId, reason: Reason) -> None:
    """Hear no more of a guest that no order names, for good; whoever is given its VMID is told of again.

    Example: panel-sync findings ignore 12 --reason "our monitoring"

    Ends with 0; with 2 if there is no such finding, or it is of another class.
    """
    with _panel() as (connection, _):
        found = ignore_finding(connection, finding, reason, operator())
        note(connection, "findings ignore", f"finding:{finding}")
    out.print(f"{found.class_} {found.subject} is ignored")


@findings_app.command("heed")
def heed(finding: FindingId) -> None:
    """Take `findings ignore` back.

    Example: panel-sync findings heed 12

    Ends with 0; with 2 if there is no such finding.
    """
    with _panel() as (connection, _):
        found = heed_finding(connection, finding)
        note(connection, "findings heed", f"finding:{finding}")
    out.print(f"{found.class_} {found.subject} is no longer ignored")


@contextlib.contextmanager
def _panel() -> Iterator[tuple[Connection, Settings]]:
    """A transaction on the panel's database; what cannot be met becomes a CommandError."""
    settings = command_settings()
    settings.require("database_url")
    try:
        with opened_panel(settings.session_url) as engine, engine.begin() as connection:
            yield connection, settings
    except OperatorError as error:
        raise CommandError(str(error)) from error


def _target(name: str, settings: Settings) -> str:
    return target_of(name, (cluster.name for cluster in settings.proxmox_clusters))


def _state(found: FindingRow) -> str:
    if found.resolved_at is not None:
        return "resolved"
    if found.ignored_by is not None:
        return "ignored"
    if found.snoozed:
        return "snoozed"
    return "seen" if found.acknowledged_by else ""
