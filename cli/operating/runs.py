"""``panel-sync runs``: the latest runs of the reconciler."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.operating.operator_transaction import transaction
from cli.output.console import as_json, out
from cli.output.listing import Json
from panel.records.history import recent_runs
from panel.records.told import counted, moment
from panel.terminal import table


def runs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    kind: Annotated[str | None, typer.Option("--kind", help="full, fast or plan; by default all.")] = None,
    json: Json = False,
) -> None:
    """List reconciliation runs: when, by whom, what was counted, which sources had problems.

    Examples: panel-sync runs --kind full --limit 5; panel-sync runs --json

    Ends with 0, also if runs failed.
    """
    with transaction() as connection:
        latest = recent_runs(connection, kind=kind, limit=limit)
    if json:
        as_json([dict(row._mapping) for row in latest])
        return
    rows = table("run", "kind", "by", "state", "started (UTC)", "took", "counted", "problems")
    for row in latest:
        took = "" if row.finished_at is None else f"{(row.finished_at - row.started_at).total_seconds():.1f} s"
        problems = "; ".join([*row.problems, *([row.error] if row.error else [])])
        rows.add_row(
            str(row.id), row.kind, row.trigger, row.state, moment(row.started_at), took, counted(row.counts), problems
        )
    out.print(rows)
