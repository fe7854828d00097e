"""``panel-sync money``: machines that run unpaid, and orders that are paid and whose machine is missing."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from cli.environment import command_settings
from cli.errors import CommandError
from cli.operating.operator_transaction import transaction
from cli.operating.options import duration
from cli.output.console import as_json, err, out
from cli.output.listing import Json, OfCluster, OfUser, Page, PerPage
from panel.operators.reports.csv_lines import Writable, as_text
from panel.operators.reports.looks import configured
from panel.operators.reports.money import MoneyFilter, MoneyGroup, MoneyReport, money, write_money
from panel.operators.reports.money_statements import Subject
from panel.records.told import moment
from panel.sessions import OF_ONE_MOMENT
from panel.terminal import SafeTable, table

app = typer.Typer(
    help="Machines that run unpaid, and orders that are paid and whose machine is missing.", no_args_is_help=True
)

OfReason = Annotated[str | None, typer.Option("--reason", help="Only this reason: no-order, guest-gone, ...")]
Older = Annotated[
    timedelta | None,
    typer.Option("--older", parser=duration, metavar="DURATION", help="Only what has lasted for at least so long: 7d."),
]
Csv = Annotated[
    str | None, typer.Option("--csv", metavar="FILE", help="Write all rows as CSV to this file; - is the output.")
]


@app.command("running-unpaid")
def running_unpaid(
    reason: OfReason = None,
    cluster: OfCluster = None,
    user: OfUser = None,
    older: Older = None,
    page: Page = 1,
    limit: PerPage = 50,
    csv: Csv = None,
    json: Json = False,
) -> None:
    """List guests that run although their order ended, is suspended or is gone, or that nobody ordered; oldest first.

    A guest of a cluster that was not read is not listed: `panel-sync coverage` tells of it. There are no prices in the
    panel, so there are counts and sizes.

    Examples: panel-sync money running-unpaid; panel-sync money running-unpaid --older 7d --csv unpaid.csv

    Ends with 0, whether there are any or not.
    """
    wanted = MoneyFilter(reason, cluster, user, older or timedelta(0))
    _report(Subject.UNPAID, wanted, page=page, limit=limit, csv=csv, json=json)


@app.command("paid-missing")
def paid_missing(
    reason: OfReason = None,
    cluster: OfCluster = None,
    user: OfUser = None,
    older: Older = None,
    page: Page = 1,
    limit: PerPage = 50,
    csv: Csv = None,
    json: Json = False,
) -> None:
    """List active orders without a guest, or whose guest is gone, in error or stopped against the order; oldest first.

    An order whose cluster was not read is not listed: `panel-sync coverage` tells of it.

    Examples: panel-sync money paid-missing; panel-sync money paid-missing --reason guest-gone --json

    Ends with 0, whether there are any or not.
    """
    wanted = MoneyFilter(reason, cluster, user, older or timedelta(0))
    _report(Subject.MISSING, wanted, page=page, limit=limit, csv=csv, json=json)


def _report(subject: Subject, wanted: MoneyFilter, *, page: int, limit: int, csv: str | None, json: bool) -> None:
    if csv is not None and json:
        raise CommandError("--csv and --json exclude each other")
    of = configured(command_settings("database_url"))
    with transaction(**OF_ONE_MOMENT) as connection:
        if csv is not None:
            _write(csv, lambda file: write_money(connection, of, subject, wanted, file))
            return
        report = money(connection, of, subject, wanted, limit=limit, offset=(page - 1) * limit)
    if json:
        as_json(asdict(report))
        return
    _show(report, page)


def _write(csv: str, write: Callable[[Writable], None]) -> None:
    """Write to the output, or to a file, which appears once it is whole. Raises CommandError."""
    if csv == "-":
        with as_text(sys.stdout.buffer) as text:
            write(text)
        return
    file = Path(csv)
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as part:
            try:
                with as_text(part) as text:
                    write(text)
                Path(part.name).replace(file)
            except BaseException:
                Path(part.name).unlink()
                raise
    except OSError as error:
        raise CommandError(f"{file} can't be written: {error.strerror}") from error
    err.print(f"written to {file}")


def _show(report: MoneyReport, page: int) -> None:
    for source in report.unread:
        out.print(f"{source} is not up to date, so what is told of it here is old or missing: panel-sync coverage")
    if report.orders_as_of is not None:
        out.print(f"The orders as of {moment(report.orders_as_of)} UTC")
    totals = table("of", "count", "cores", "RAM, GB", "disk, GB", "size not known")
    for title, groups in (("reason", report.reasons), ("days", report.ages), ("plan", report.plans)):
        _add(totals, title, groups)
    _add(totals, "all", (MoneyGroup("", report.total),))
    out.print(totals)
    if report.more_plans:
        out.print(f"{report.more_plans} more plans are in the totals")
    rows = table("since (UTC)", "days", "reason", "vps", "order", "user", "guest", "name", "cores/MB/GB", "as of (UTC)")
    for row in report.rows:
        size = "/".join("?" if part is None else f"{part:g}" for part in (row.cores, row.ram_mb, row.disk_gb))
        rows.add_row(
            moment(row.since),
            "" if row.age_days is None else f"{row.age_days:g}",
            row.reason,
            "" if row.vps_id is None else str(row.vps_id),
            row.order_id or "",
            "" if row.user_id is None else str(row.user_id),
            "" if row.vmid is None else f"{row.cluster}/{row.vmid}",
            row.name or "",
            size,
            moment(row.as_of),
        )
    if rows.row_count:
        out.print(rows)
    if report.more:
        out.print(f"There are more: --page {page + 1}, or all of them: --csv FILE")


def _add(totals: SafeTable, title: str, groups: Sequence[MoneyGroup]) -> None:
    for group in groups:
        total = group.total
        sizes = (f"{total.cores:g}", f"{total.ram_gb:g}", str(total.disk_gb), str(total.sizes_unknown or ""))
        totals.add_row(f"{title} {group.of}".strip(), str(total.count), *sizes)
