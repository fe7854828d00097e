"""``panel-sync findings``: what runs found and may not mend, and what operators answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from cli.operating.acting import act, transaction
from cli.operating.words import Length, Reason
from cli.output.console import as_json, moment, out, span
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
from panel.terminal import table

app = typer.Typer(invoke_without_command=True)

FindingId = Annotated[int, typer.Argument(metavar="ID", min=1)]


@app.callback()
def list_all(
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
    with transaction() as connection:
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


@app.command("ack")
def ack(finding: FindingId) -> None:
    """Note that you have seen it.

    Example: panel-sync findings ack 12

    Ends with 0; with 2 if there is no such finding.
    """
    out.print(act(findings.acknowledge, finding).message)


@app.command("snooze")
def snooze(finding: FindingId, length: Length) -> None:
    """Leave it out of the list and of alarms for a while.

    Example: panel-sync findings snooze 12 --for 2d

    Ends with 0; with 2 if there is no such finding.
    """
    out.print(act(findings.snooze, finding, length).message)


@app.command("ignore")
def ignore(finding: FindingId, reason: Reason) -> None:
    """Hear no more of a guest that no order names, for good; whoever is given its VMID is told of again.

    Example: panel-sync findings ignore 12 --reason "our monitoring"

    Ends with 0; with 2 if there is no such finding, or it is of another class.
    """
    out.print(act(findings.ignore, finding, reason).message)


@app.command("heed", hidden=True)  # what it was called before
@app.command("unignore")
def unignore(finding: FindingId) -> None:
    """Take `findings ignore` back.

    Example: panel-sync findings unignore 12

    Ends with 0; with 2 if there is no such finding.
    """
    out.print(act(findings.unignore, finding).message)


def _state(found: FindingView) -> str:
    if found.resolved_at is not None:
        return "resolved"
    if found.ignored_by is not None:
        return "ignored"
    if found.snoozed:
        return "snoozed"
    return "seen" if found.acknowledged_by else ""
