"""``panel-sync drift``: the records that differ from their order or their guest, as runs saw them last."""

from __future__ import annotations

from cli.environment import command_settings
from cli.operating.operator_transaction import transaction
from cli.output.console import as_json, out
from cli.output.listing import Json, OfClass, OfCluster, OfUser, Page, PerPage
from panel.operators.reports.drift import Difference, DriftFilter, drift_as_json
from panel.operators.reports.drift import drift as drift_of
from panel.operators.reports.looks import configured
from panel.records.told import moment
from panel.sessions import OF_ONE_MOMENT
from panel.terminal import table


def drift(
    class_: OfClass = None,
    cluster: OfCluster = None,
    user: OfUser = None,
    page: Page = 1,
    limit: PerPage = 50,
    json: Json = False,
) -> None:
    """List every record that differs from its order or its guest, as runs saw them last, with the facts that differ.

    It reads what runs have stored and asks no source; `panel-sync plan` asks them all and says what a run would do.

    Examples: panel-sync drift; panel-sync drift --class plan --page 2; panel-sync drift --user 5 --json

    Ends with 0, whether something differs or not.
    """
    of, wanted = configured(command_settings("database_url")), DriftFilter(class_, cluster, user)
    with transaction(**OF_ONE_MOMENT) as connection:
        report = drift_of(connection, of, wanted, limit=limit, offset=(page - 1) * limit)
    if json:
        as_json(drift_as_json(report))
        return
    counted = ", ".join(f"{count.class_}: {count.count}" for count in report.counts)
    out.print(f"{report.differing} of {report.records} records differ" + (f" ({counted})" if counted else ""))
    if report.as_of is None:
        out.print("Not every source was read completely yet: panel-sync coverage")
    else:
        out.print(f"As of {moment(report.as_of)} UTC, the oldest of the last complete reads: panel-sync coverage")
    rows = table("vps", "name", "user", "order", "guest", "classes", "what differs: order | panel | Proxmox")
    for row in report.rows:
        rows.add_row(
            str(row.vps_id),
            row.name,
            str(row.user_id),
            row.order_id or "",
            "" if row.vmid is None else f"{row.cluster}/{row.vmid}",
            ", ".join(row.classes),
            "; ".join(_told(one) for one in row.differences),
        )
    if rows.row_count:
        out.print(rows)
        out.print("One VPS with all its facts: panel-sync vps show ID")
    if report.more:
        out.print(f"There are more: --page {page + 1}")


def _told(one: Difference) -> str:
    sides = " | ".join("" if side is None else side for side in (one.order, one.panel, one.proxmox))
    return f"{one.name}: {sides}"
