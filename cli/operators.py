"""What operators decide: held sets, pauses, findings, restores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

import typer
from sqlalchemy import Connection

from cli.acting import note, operator
from cli.connect import opened_panel
from cli.console import moment, out
from cli.environment import command_settings
from cli.errors import CommandError
from cli.tokens import duration
from panel.findings import FindingRow, acknowledge_finding, heed_finding, ignore_finding, list_findings, snooze_finding
from panel.holds import Decision, decide_hold, list_holds
from panel.operators import OperatorError
from panel.pauses import pause as pause_source
from panel.pauses import resume as resume_source
from panel.pauses import target_of
from panel.quarantine import list_quarantined
from panel.quarantine import release as release_subject
from panel.restore import restore_vps
from panel.settings import Settings
from panel.terminal import styled, table

VERBS = {Decision.APPROVED: "approve", Decision.REJECTED: "reject"}

findings_app = typer.Typer(help="What runs found and may not mend.", invoke_without_command=True)

Hash = Annotated[str, typer.Argument(metavar="HASH", help="As `panel-sync held` shows it; 8 characters or more.")]
Target = Annotated[str, typer.Argument(metavar="CLUSTER|feed|all|vps:ID|user:ID")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept and shown.")]
Length = Annotated[
    timedelta,
    typer.Option("--for", parser=duration, metavar="DURATION", help="For how long: 15m, 2h, 3d; at most 30d."),
]
FindingId = Annotated[int, typer.Argument(metavar="ID", min=1)]


def held(
    everything: Annotated[bool, typer.Option("--all", help="Decided sets of the last 30 days too.")] = False,
) -> None:
    """List the sets of changes that exceed a limit and wait for a decision."""
    with _panel() as (connection, _):
        found = list_holds(connection, decided=everything)
    for one in found:
        said = (
            f" — {one.decision} by {one.decided_by}" if one.decided_by else f" — {one.decision}" if one.decision else ""
        )
        out.print(styled("bold", one.hash[:12]), f"{one.scope}: {one.reason}{said}")
        for item in one.items:
            out.print(f"  {item['subject']} {item['kind']}: {item['reason']}")
    if not found:
        out.print("nothing is held")


def approve(held_set: Hash) -> None:
    """Let a held set happen. Each item is still confirmed by itself before it is written.

    An item that changes before that drops out of the approval; after 24 hours all of them do.
    """
    _decide(held_set, Decision.APPROVED)


def reject(held_set: Hash) -> None:
    """Refuse a held set: its items stay as they are and are not asked about again while they do not change."""
    _decide(held_set, Decision.REJECTED)


def pause(
    target: Target,
    reason: Reason,
    length: Length,
) -> None:
    """Leave a cluster, the main site or everything alone: it is not read and its records keep their state.

    A single VPS, or a customer's, are read and reported, and no run writes them. Sync calls are accepted and applied
    as ever. The pause ends by itself.
    """
    with _panel() as (connection, settings):
        made = pause_source(connection, _target(target, settings), reason, length, operator())
        note(connection, "pause", made.target)
    out.print(f"{made.target} is {made}")


def resume(target: Target) -> None:
    """End a pause before its time."""
    with _panel() as (connection, settings):
        resume_source(connection, _target(target, settings))
        note(connection, "resume", target)
    out.print(f"{target} is resumed")


def quarantined() -> None:
    """List what runs failed at again and again: why, and when each is tried again."""
    with _panel() as (connection, _):
        found = list_quarantined(connection)
    shown = table("subject", "failed", "at", "cause", "not before (UTC)")
    for one in found:
        shown.add_row(one.subject, f"{one.failures} times", one.stage, one.cause, moment(one.next_try_at))
    out.print(shown)


def release(subject: Annotated[str, typer.Argument(metavar="SUBJECT|all")]) -> None:
    """End a quarantine before its time, as `panel-sync quarantined` names it; the next run tries at once."""
    with _panel() as (connection, _):
        released = release_subject(connection, subject)
        note(connection, "release", subject)
    out.print(f"released: {', '.join(released)}")


def restore(
    vps: Annotated[int, typer.Argument(metavar="ID", min=1, help="The VPS's id in the panel.")], reason: Reason
) -> None:
    """Bring a deleted record back, within 7 days; for the next 7 days reconciliation will not delete it again."""
    with _panel() as (connection, _):
        row = restore_vps(connection, vps, reason, operator())
        note(connection, "vps restore", f"vps:{vps}")
    out.print(f"VPS {vps} is {row['status']} again, protected until {moment(row['protected_until'])} UTC")


@findings_app.callback()
def findings(
    context: typer.Context,
    class_: Annotated[str | None, typer.Option("--class", help="Only this class: paid-but-missing, ...")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Snoozed, ignored and resolved ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 200,
) -> None:
    """List what runs found and may not mend, the loudest first."""
    if context.invoked_subcommand is not None:
        return
    with _panel() as (connection, _):
        found = list_findings(connection, class_=class_, everything=everything, limit=limit)
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


@findings_app.command("ack")
def ack(finding: FindingId) -> None:
    """Note that you have seen it."""
    with _panel() as (connection, _):
        found = acknowledge_finding(connection, finding, operator())
        note(connection, "findings ack", f"finding:{finding}")
    out.print(f"{found.class_} {found.subject} is acknowledged")


@findings_app.command("snooze")
def snooze(finding: FindingId, length: Length) -> None:
    """Leave it out of the list and of alarms for a while."""
    with _panel() as (connection, _):
        found = snooze_finding(connection, finding, length, operator())
        note(connection, "findings snooze", f"finding:{finding}")
    out.print(f"{found.class_} {found.subject} is snoozed until {moment(found.snoozed_until)} UTC")


@findings_app.command("ignore")
def ignore(finding: FindingId, reason: Reason) -> None:
    """Hear no more of a guest that no order names, for good; whoever is given its VMID is told of again."""
    with _panel() as (connection, _):
        found = ignore_finding(connection, finding, reason, operator())
        note(connection, "findings ignore", f"finding:{finding}")
    out.print(f"{found.class_} {found.subject} is ignored")


@findings_app.command("heed")
def heed(finding: FindingId) -> None:
    """Take `findings ignore` back."""
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
        with opened_panel(settings.database_url) as engine, engine.begin() as connection:
            yield connection, settings
    except OperatorError as error:
        raise CommandError(str(error)) from error


def _decide(prefix: str, decision: Decision) -> None:
    with _panel() as (connection, _):
        done = decide_hold(connection, prefix, decision, operator())
        note(connection, VERBS[decision], done.hash)
    out.print(f"{done.hash[:12]} {done.scope}: {len(done.items)} {decision.value}")


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
