"""``panel-sync findings``: what runs found and may not repair, and what operators answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from cli.operating.operator_transaction import act, transaction
from cli.operating.options import Length, Reason
from cli.output.console import as_json, out
from cli.output.listing import Json, OfCluster, OfUser, Page
from panel.operators.actions import findings
from panel.operators.findings import (
    FindingCount,
    FindingFilter,
    FindingView,
    count_findings,
    finding_as_json,
    list_findings,
)
from panel.records.told import moment, span
from panel.terminal import table

app = typer.Typer(invoke_without_command=True)

FindingId = Annotated[int, typer.Argument(metavar="ID", min=1)]


@app.callback()
def list_all(
    context: typer.Context,
    class_: Annotated[str | None, typer.Option("--class", help="Only this class: paid-but-missing, ...")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also the snoozed, ignored and resolved ones.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Findings a page.")] = 200,
    cluster: OfCluster = None,
    user: OfUser = None,
    page: Page = 1,
    summary: Annotated[
        bool, typer.Option("--summary", help="How many are open in each class, and how old the oldest is.")
    ] = False,
    json: Json = False,
) -> None:
    """List what runs found and may not repair, the most severe first.

    Examples: panel-sync findings --summary; panel-sync findings --class owner-unknown --page 2;
    panel-sync findings --cluster fra1 --json

    Ends with 0, also if there are no findings.
    """
    if context.invoked_subcommand is not None:
        return
    with transaction() as connection:
        if summary:
            _show_counts(count_findings(connection), json=json)
            return
        wanted = FindingFilter(class_, cluster, user)
        first = (page - 1) * limit
        listed = list_findings(connection, wanted, everything=everything, limit=limit + 1, offset=first)
    more, listed = len(listed) > limit, listed[:limit]
    if json:
        as_json([finding_as_json(finding) for finding in listed])
        return
    rows = table("id", "severity", "class", "subject", "since (UTC)", "", "why")
    for finding in listed:
        rows.add_row(
            str(finding.id),
            finding.severity,
            finding.class_,
            finding.subject,
            moment(finding.first_seen_at),
            _state(finding),
            finding.reason,
        )
    out.print(rows)
    if more:
        out.print(f"There are more: --page {page + 1}; how many of each class: panel-sync findings --summary")


def _show_counts(counts: Sequence[FindingCount], *, json: bool) -> None:
    if json:
        as_json([finding_as_json(count) for count in counts])
        return
    rows = table("class", "severity", "open", "the oldest stands for")
    for count in counts:
        rows.add_row(count.class_, count.severity, str(count.open), span(count.oldest_s))
    out.print(rows)


@app.command("ack")
def ack(finding: FindingId) -> None:
    """Note that you have seen a finding. It stays in the list.

    Example: panel-sync findings ack 12

    Ends with 0; with 2 if there is no such finding.
    """
    out.print(act(findings.acknowledge, finding).message)


@app.command("snooze")
def snooze(finding: FindingId, length: Length) -> None:
    """Leave a finding out of the list and of alarms for a while.

    Example: panel-sync findings snooze 12 --for 2d

    Ends with 0; with 2 if there is no such finding, or if the time is longer than 30 days.
    """
    out.print(act(findings.snooze, finding, length).message)


@app.command("ignore")
def ignore(finding: FindingId, reason: Reason) -> None:
    """Hide a guest that no order names, for good. Another machine that gets its VMID is reported again.

    Example: panel-sync findings ignore 12 --reason "our monitoring"

    Ends with 0; with 2 if there is no such finding, if it is not of the class unmanaged-guest, or if the guest's
    identity was not read.
    """
    out.print(act(findings.ignore, finding, reason).message)


@app.command("heed", hidden=True)  # its name in earlier versions
@app.command("unignore")
def unignore(finding: FindingId) -> None:
    """Undo `findings ignore`.

    Example: panel-sync findings unignore 12

    Ends with 0; with 2 if there is no such finding, or if its guest is not ignored.
    """
    out.print(act(findings.unignore, finding).message)


def _state(finding: FindingView) -> str:
    if finding.resolved_at is not None:
        return "resolved"
    if finding.ignored_by is not None:
        return "ignored"
    if finding.snoozed:
        return "snoozed"
    return "seen" if finding.acknowledged_by else ""
