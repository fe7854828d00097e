"""``panel-sync runs`` and ``service-levels``: the latest runs of the reconciler, and how long what they mended had
lasted."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.environment import command_settings
from cli.operating.operator_transaction import transaction
from cli.output.console import as_json, out
from cli.output.listing import Json
from panel.journal.rows import database_now
from panel.operators.service_levels import Mended, service_levels
from panel.records.history import recent_runs
from panel.records.told import counted, moment, span
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


def levels(json: Json = False) -> None:
    """Show by class of drift how long differences lasted, and the share that was mended within MEND_WITHIN_S.

    What is open was counted by the last full run, the 24 hours and the 30 days within the last hour.

    Examples: panel-sync service-levels; panel-sync service-levels --json

    Ends with 0, also if the share is low.
    """
    with transaction() as connection:
        shown, now = service_levels(connection, command_settings().mend_within_s), database_now(connection)
    if json:
        as_json(asdict(shown))
        return
    if not shown.classes:
        out.print("no difference was seen or mended yet")
        return
    of_day, of_month = (f"{when}: mended (median, p95, longest) in time" for when in ("24 h", "30 d"))
    rows = table("class", "open", "oldest", of_day, of_month)
    for level in shown.classes:
        oldest = "" if level.open_since is None else span(max(0.0, (now - level.open_since).total_seconds()))
        rows.add_row(level.kind, str(level.open), oldest, _mended(level.day), _mended(level.month))
    out.print(rows)
    counted = ", ".join(
        f"the {stretch}: " + ("not counted yet" if at is None else f"counted {moment(at)} UTC")
        for stretch, at in (("24 hours", shown.day_counted_at), ("30 days", shown.counted_at))
    )
    out.print(f"in time: within {span(shown.within_s)} (MEND_WITHIN_S); {counted}")


def _mended(mended: Mended | None) -> str:
    if mended is None:
        return ""
    times = [span(seconds) for seconds in (mended.median_s, mended.p95_s, mended.longest_s) if seconds is not None]
    share = "" if mended.share is None else f" {100 * mended.share:.1f} %"
    return f"{mended.mended}" + (f" ({', '.join(times)})" if times else "") + share
