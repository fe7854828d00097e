"""``panel-sync overview``: the state of the whole panel at one moment, as the first page of operators shows it."""

from __future__ import annotations

from cli.environment import command_settings
from cli.operating.operator_transaction import transaction
from cli.output.console import as_json, out
from cli.output.listing import Json
from panel.operators.pages.overview import Overview
from panel.operators.pages.overview import overview as overview_of
from panel.operators.reports.as_json import overview_as_json
from panel.records.told import moment, span
from panel.terminal import table


def overview(json: Json = False) -> None:
    """Show whether the panel is in sync, what needs you first, findings by class, sources, and what is left alone.

    Example: panel-sync overview --json

    Ends with 0, whatever the state is.
    """
    with transaction() as connection:
        now = overview_of(connection, command_settings().mend_within_s)
    if json:
        as_json(overview_as_json(now))
        return
    _show(now)


def _show(now: Overview) -> None:
    numbers, last = now.numbers, now.last_full
    if last is None:
        out.print("no full run came to its end yet")
    else:
        out.print(
            f"{now.in_sync} of {numbers['live']} VPS in sync, {now.not_in_sync} differ or are pending, as run {last.id}"
            f" saw it ({moment(last.finished_at)} UTC)"
        )
    out.print(
        f"{numbers['held_items']} changes held, {numbers['dead']} dead calls, {numbers['queued']} calls waiting, "
        f"{numbers['pauses']} pauses, {numbers['quarantined']} in quarantine"
    )
    for one in now.matters:
        reason = "" if one.finding is None else f" {one.finding.subject}: {one.finding.reason}"
        out.print(f"{one.severity}: {one.class_}{reason}" + (f" ({one.others} more)" if one.others > 0 else ""))
    findings = table("class", "severity", "open", "the oldest stands for")
    for count in now.findings:
        findings.add_row(count.class_, count.severity, str(count.open), span(count.oldest_s))
    sources = table("source", "read last (UTC)", "not believed for", "why")
    for source in now.sources:
        lasts = "" if source.age_s is None else span(source.age_s)
        sources.add_row(source.source, moment(source.read_at), lasts, source.reason or "")
    for rows in (findings, sources):
        if rows.row_count:
            out.print(rows)
