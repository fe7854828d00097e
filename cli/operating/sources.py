"""``panel-sync sources`` and ``acknowledge``: what is read and believed, and an operator's word about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy import text

from cli.operating.acting import act, transaction
from cli.output.console import as_json, err, moment, out, span
from panel.operators.actions import sources
from panel.operators.pauses import current_pauses
from panel.runs.source_states import SourceView, list_sources
from panel.terminal import table


def list_all(
    everything: Annotated[
        bool, typer.Option("--all", help="Also each customer that panel-api reads by itself.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON: one object for each source.")] = False,
) -> None:
    """List the sources: when each was read last, which are not believed, since when, why, and what to do.

    Examples: panel-sync sources; panel-sync sources --json

    Ends with 0, whatever they are; `panel-sync doctor` ends with 1 while one of them is an alarm.
    """
    with transaction() as connection:
        pauses = current_pauses(connection)
        found = list_sources(connection)
        scopes = connection.execute(SCOPES, {"all": everything}).all()
    if json:
        as_json([asdict(one) for one in found])
    else:
        shown = table("source", "scope", "last complete read (UTC)", "entries", "")
        health = {one.source: one for one in found}
        for row in scopes:
            one = health.get(row.source)
            said = _state(one) if one is not None and row.scope == "all" else ""
            shown.add_row(row.source, row.scope, moment(row.began_at), str(row.count), said)
        for one in found:
            if not any(row.source == one.source and row.scope == "all" for row in scopes):
                shown.add_row(one.source, "", moment(one.read_at), "", _state(one))
        out.print(shown)
        for one in found:
            if one.cause is not None and not one.paused:
                since = f"not believed for {span(one.age_s or 0.0)}"
                out.print(f"{one.source}: {since}: {one.reason}", soft_wrap=True)
                out.print(f"  to do: {one.remedy}", soft_wrap=True)
        for target, pause in pauses.items():
            out.print(f"{target}: {pause}")


def acknowledge(
    source: Annotated[
        str,
        typer.Argument(help="As `panel-sync sources` names it: orders, proxmox:<cluster>; or plan: the first plan."),
    ],
) -> None:
    """Say that a source which lost much at once is right: from now on, what is missing counts as missing.

    It is for what is missing now; should much more vanish, you are asked again. `plan` says that you have seen the
    first plan: see `panel-sync plan`.

    Examples: panel-sync acknowledge proxmox:fra1; panel-sync acknowledge plan

    Ends with 0; with 2 if nothing was to be acknowledged.
    """
    out.print(act(sources.acknowledge, source).message, soft_wrap=True)
    err.print("A run is on its way: panel-sync runs")


def _state(one: SourceView | None) -> str:
    if one is None:
        return ""
    if one.paused:
        return "paused"
    if one.cause is None:
        return one.degraded_reason or ""
    return f"{'ALARM' if one.alarm and one.severity == 'alarm' else 'not believed'} ({one.cause})"


SCOPES = text(
    "SELECT source, scope, began_at, count FROM scopes WHERE :all OR NOT starts_with(scope, 'user:')"
    " ORDER BY source, scope"
)
