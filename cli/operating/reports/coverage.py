"""``panel-sync coverage``: what the last look of the runs covers, and what cannot be judged and why."""

from __future__ import annotations

from dataclasses import asdict

from cli.environment import command_settings
from cli.operating.operator_transaction import transaction
from cli.output.console import as_json, out
from cli.output.listing import Json, OfClass, OfCluster, OfUser, Page, PerPage
from panel.operators.reports.blind_spots import SpotFilter
from panel.operators.reports.coverage import CoverageReport, coverage_as_json
from panel.operators.reports.coverage import coverage as coverage_of
from panel.operators.reports.looks import configured
from panel.records.told import moment
from panel.sessions import OF_ONE_MOMENT
from panel.terminal import table


def coverage(
    class_: OfClass = None,
    cluster: OfCluster = None,
    user: OfUser = None,
    page: Page = 1,
    limit: PerPage = 50,
    json: Json = False,
) -> None:
    """Show what the last look at each source and node covers, and which records, orders and guests cannot be judged.

    Each of them is in one class, so the counts add up. A filter or --page lists them one by one.

    Examples: panel-sync coverage; panel-sync coverage --class config-refused; panel-sync coverage --cluster fra1 --json

    Ends with 0, also if something cannot be judged.
    """
    of, wanted = configured(command_settings("database_url")), SpotFilter(class_, cluster, user)
    with transaction(**OF_ONE_MOMENT) as connection:
        report = coverage_of(connection, of, wanted, limit=limit, offset=(page - 1) * limit)
    if json:
        as_json(coverage_as_json(report))
        return
    out.print(f"of {report.records} records, the last look covers {report.judged}")
    if page > 1 or any(asdict(wanted).values()):
        _show_spots(report, page)
        return
    _show_sources(report)
    counts = table("class", "what", "count", "why", "what to do")
    for count in report.counts:
        counts.add_row(count.class_, count.kind, str(count.count), count.why, count.remedy)
    if counts.row_count:
        out.print(counts)
        out.print("One by one: panel-sync coverage --class CLASS | --cluster NAME | --user ID [--page N], or --json")


def _show_sources(report: CoverageReport) -> None:
    rows = table("source", "node", "complete", "looked at (UTC)", "entries", "not complete since (UTC)", "why", "to do")
    for one in report.sources:
        refused = f"; {one.refused} rows refused" if one.refused else ""
        rows.add_row(
            one.source,
            one.node or "",
            "yes" if one.complete else "no",
            moment(one.looked_at),
            "" if one.entries is None else str(one.entries),
            moment(one.since),
            "" if one.reason is None else f"{one.reason}{refused}",
            one.remedy or "",
        )
    out.print(rows)


def _show_spots(report: CoverageReport, page: int) -> None:
    rows = table("class", "subject", "vps", "order", "user", "guest", "node", "why", "what to do")
    for spot in report.spots:
        rows.add_row(
            spot.class_,
            spot.subject,
            "" if spot.vps_id is None else str(spot.vps_id),
            spot.order_id or "",
            "" if spot.user_id is None else str(spot.user_id),
            "" if spot.vmid is None else f"{spot.cluster}/{spot.vmid}",
            spot.node or "",
            spot.why,
            spot.remedy,
        )
    out.print(rows)
    if report.more:
        out.print(f"There are more: --page {page + 1}")
