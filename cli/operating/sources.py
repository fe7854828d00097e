"""``panel-sync sources`` and ``acknowledge``: which sources are read and believed, and what operators say of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy import text

from cli.operating.operator_transaction import act, transaction
from cli.output.console import as_json, err, out
from panel.operators.actions import sources
from panel.operators.pauses import current_pauses
from panel.records.told import moment, span
from panel.runs.source_states import SourceView, list_sources
from panel.terminal import table


def list_all(
    everything: Annotated[
        bool, typer.Option("--all", help="Also each customer, where panel-api reads customer by customer.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON: one object for each source.")] = False,
) -> None:
    """List the sources: when each was read last, which are not believed, since when, why, and what to do.

    Examples: panel-sync sources; panel-sync sources --json

    Ends with 0, also if a source is not believed; `panel-sync doctor` ends with 1 while one of them is an alarm.
    """
    with transaction() as connection:
        pauses = current_pauses(connection)
        views = list_sources(connection)
        scopes = connection.execute(SCOPES, {"all": everything}).all()
    if json:
        as_json([asdict(view) for view in views])
    else:
        rows = table("source", "scope", "last complete read (UTC)", "entries", "")
        states = {view.source: _state(view) for view in views}
        for scope in scopes:
            state = states.get(scope.source, "") if scope.scope == "all" else ""
            rows.add_row(scope.source, scope.scope, moment(scope.began_at), str(scope.count), state)
        for view in views:
            if not any(scope.source == view.source and scope.scope == "all" for scope in scopes):
                rows.add_row(view.source, "", moment(view.read_at), "", _state(view))
        out.print(rows)
        for view in views:
            if view.cause is not None and not view.paused:
                since = f"not believed for {span(view.age_s or 0.0)}"
                out.print(f"{view.source}: {since}: {view.reason}", soft_wrap=True)
                out.print(f"  to do: {view.remedy}", soft_wrap=True)
        for target, pause in pauses.items():
            out.print(f"{target}: {pause}")


def acknowledge(
    source: Annotated[
        str,
        typer.Argument(help="As `panel-sync sources` names it: orders, proxmox:<cluster>. Or plan: the first plan."),
    ],
) -> None:
    """Confirm that a source which lost many entries at once is right. From now on they count as missing.

    This is for the entries that are missing now. If many more vanish, you are asked again. `acknowledge plan` says that
    you have seen the first plan (`panel-sync plan`).

    Examples: panel-sync acknowledge proxmox:fra1; panel-sync acknowledge plan

    Ends with 0; with 2 if there is nothing to acknowledge.
    """
    out.print(act(sources.acknowledge, source).message, soft_wrap=True)
    err.print("A run is on its way: panel-sync runs")


def _state(source: SourceView) -> str:
    if source.paused:
        return "paused"
    if source.cause is None:
        return source.degraded_reason or ""
    return f"{'ALARM' if source.alarm and source.severity == 'alarm' else 'not believed'} ({source.cause})"


SCOPES = text(
    "SELECT source, scope, began_at, count FROM scopes WHERE :all OR NOT starts_with(scope, 'user:')"
    " ORDER BY source, scope"
)
